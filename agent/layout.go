package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// In a placement's directory:
//
//	.rotunda       whose directory this is: agent and placement
//	rev-000031/    one revision; never changed once it was staged
//	current        a symbolic link to the revision in use
const (
	markerFile  = ".rotunda"
	currentLink = "current"
	revForm     = "rev-%06d"
)

func revName(number uint64) string { return fmt.Sprintf(revForm, number) }

func parseRevName(name string) (uint64, bool) {
	var number uint64
	if _, err := fmt.Sscanf(name, revForm, &number); err != nil || number == 0 || revName(number) != name {
		return 0, false
	}
	return number, true
}

// layout is an open placement directory. All that it does stays below it.
type layout struct {
	root *os.Root
	path string
}

func (l *layout) close() { _ = l.root.Close() } // only names were looked up through it

// marker says whose a placement directory is.
type marker struct {
	Agent     string `json:"agent"`
	Placement string `json:"placement"`
}

// openLayout opens a placement's directory, making it where it is not there
// yet and make is set; without make, nil says that there is none. Directories
// that another could change under our hands, or that are another's, are
// refused.
func openLayout(host *HostRules, path string, owner marker, create bool) (*layout, error) {
	if err := host.AllowDirectory(path); err != nil {
		return nil, err
	}
	there := existing(path)
	if err := checkGuarded(there); err != nil {
		return nil, err
	}
	if there != path && !create {
		return nil, nil
	}
	root, err := host.OpenDirectory(path)
	if err != nil {
		return nil, err
	}
	l := &layout{root: root, path: path}
	if err := l.claim(owner, create); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// existing is the part of a path that is there already: what is made below it
// is the agent's own.
func existing(path string) string {
	for {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// claim takes the directory for this placement, or says whose it is.
func (l *layout) claim(owner marker, create bool) error {
	text, err := l.root.ReadFile(markerFile)
	if errors.Is(err, fs.ErrNotExist) {
		if !create {
			return nil
		}
		text, err = json.Marshal(owner)
		if err != nil {
			return err
		}
		err = durable.CreateFile(l.root, markerFile, append(text, '\n'), 0o644, nil)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		text, err = l.root.ReadFile(markerFile) // another agent was faster
	}
	if err != nil {
		return fmt.Errorf("directory %s: read %s: %w", l.path, markerFile, err)
	}
	var holder marker
	if err := json.Unmarshal(text, &holder); err != nil || holder != owner {
		return fault.New(fault.Conflict, "directory %s: belongs to placement %q of agent %q, says its file %s; this is placement %s of agent %s",
			l.path, holder.Placement, holder.Agent, markerFile, owner.Placement, owner.Agent).
			WithRemedy("give each placement a directory of its own; or, if that one is gone for good, remove %s", filepath.Join(l.path, markerFile))
	}
	return nil
}

// checkGuarded refuses a directory that anyone but root and the agent's user
// could change, or exchange on the way to it: who can do that, the target's
// user first of all, could have keys written where he likes.
func checkGuarded(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("directory %s: %w", dir, err)
	}
	for at := real; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return fmt.Errorf("directory %s: %w", dir, err)
		}
		if err := guarded(at, info, at == real); err != nil {
			return err
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

func guarded(at string, info fs.FileInfo, last bool) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fault.New(fault.Internal, "directory %s: its owner can't be seen", at)
	}
	if stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return fault.New(fault.Forbidden, "directory %s: belongs to user %s, who could exchange what is written there; it must belong to root or to the agent's user", at, userName(stat.Uid)).
			WithRemedy("chown root %s", at)
	}
	sticky := info.Mode()&fs.ModeSticky != 0 && !last
	if info.Mode().Perm()&0o002 != 0 && !sticky {
		return fault.New(fault.Forbidden, "directory %s: everybody can write there", at).WithRemedy("chmod o-w %s", at)
	}
	if info.Mode().Perm()&0o020 != 0 && stat.Gid != 0 && int(stat.Gid) != os.Getegid() && !sticky {
		return fault.New(fault.Forbidden, "directory %s: its group (%d) can write there", at, stat.Gid).WithRemedy("chmod g-w %s", at)
	}
	return nil
}

func userName(uid uint32) string {
	text := strconv.FormatUint(uint64(uid), 10)
	if account, err := user.LookupId(text); err == nil {
		return account.Username
	}
	return text
}

// current is the revision that the link leads to: 0 where there is no link, or
// none to a revision that is there, or where it leads elsewhere, which drift
// then says.
func (l *layout) current() (number uint64, drift string, err error) {
	where, err := l.root.Readlink(currentLink)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", nil
	}
	if errors.Is(err, syscall.EINVAL) {
		return 0, fmt.Sprintf("%s is no symbolic link", filepath.Join(l.path, currentLink)), nil
	}
	if err != nil {
		return 0, "", fmt.Errorf("directory %s: %w", l.path, err)
	}
	number, ok := parseRevName(where)
	if !ok {
		return 0, fmt.Sprintf("%s leads to %q", filepath.Join(l.path, currentLink), where), nil
	}
	if info, err := l.root.Lstat(where); err != nil || !info.IsDir() {
		return 0, "", nil
	}
	return number, "", nil
}

// revisions lists the revisions that have a directory.
func (l *layout) revisions() ([]uint64, error) {
	f, err := l.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", l.path, err)
	}
	var numbers []uint64
	for _, name := range names {
		if number, ok := parseRevName(name); ok {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// lead lets the link lead to a revision; that it does already is no change.
func (l *layout) lead(revision uint64) error {
	if where, err := l.root.Readlink(currentLink); err == nil && where == revName(revision) {
		return durable.SyncDir(l.root, ".")
	}
	return durable.SwapSymlink(l.root, currentLink, revName(revision))
}

// fileFact is what a file of a revision was like when it was staged.
type fileFact struct {
	Name   string      `json:"name"`
	SHA256 string      `json:"sha256"` // of its bytes, hex
	Source string      `json:"source"` // of what it says, hex
	Mode   fs.FileMode `json:"mode"`
	UID    int         `json:"uid"`
	GID    int         `json:"gid"`
}

// maxFile bounds what is read of a file of a revision: someone may have put
// anything there. A million entries make a crl.pem of 64 MB.
const maxFile = 96 << 20

// read reads a file of a revision, and what it is like.
func (l *layout) read(revision uint64, name string) ([]byte, fileFact, error) {
	at := path.Join(revName(revision), name)
	fact := fileFact{Name: name}
	info, err := l.root.Lstat(at)
	if err != nil {
		return nil, fact, err
	}
	if !info.Mode().IsRegular() {
		return nil, fact, fmt.Errorf("%s is not a regular file", filepath.Join(l.path, at))
	}
	f, err := l.root.OpenFile(at, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fact, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fact, err
	}
	if len(data) > maxFile {
		return nil, fact, fmt.Errorf("%s is larger than %d bytes", filepath.Join(l.path, at), maxFile)
	}
	sum := sha256.Sum256(data)
	fact.SHA256, fact.Mode = hex.EncodeToString(sum[:]), info.Mode().Perm()
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		fact.UID, fact.GID = int(stat.Uid), int(stat.Gid)
	}
	return data, fact, nil
}

// whole says whether the directory of a revision and all its files are there.
func (l *layout) whole(revision uint64, staged []fileFact) bool {
	if info, err := l.root.Lstat(revName(revision)); err != nil || !info.IsDir() {
		return false
	}
	for _, was := range staged {
		if _, err := l.root.Lstat(path.Join(revName(revision), was.Name)); errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// differs says how a revision's files differ from what was staged, or "".
func (l *layout) differs(revision uint64, staged []fileFact) string {
	if len(staged) == 0 {
		return fmt.Sprintf("it is not known what %s held", revName(revision))
	}
	for _, was := range staged {
		at := filepath.Join(l.path, revName(revision), was.Name)
		_, is, err := l.read(revision, was.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return at + " is gone"
		case err != nil:
			return err.Error()
		case is.SHA256 != was.SHA256:
			return at + " was edited"
		case is.Mode != was.Mode:
			return fmt.Sprintf("%s has mode %04o, not %04o", at, is.Mode, was.Mode)
		case is.UID != was.UID || is.GID != was.GID:
			return fmt.Sprintf("%s belongs to %d:%d, not to %d:%d", at, is.UID, is.GID, was.UID, was.GID)
		}
	}
	return ""
}

// put writes one file of a revision: as another name of the same file of an
// earlier revision where that did not change, else anew.
func (l *layout) put(revision uint64, c content, mode fs.FileMode, owner *durable.Owner, earlier uint64, known []fileFact) (fileFact, error) {
	at := path.Join(revName(revision), c.name)
	source := hex.EncodeToString(c.source[:])
	for _, was := range known {
		if was.Name != c.name || was.Source != source || was.Mode != mode || !owned(was, owner) {
			continue
		}
		if _, is, err := l.read(earlier, c.name); err == nil && sameFile(is, was) {
			err := durable.Link(l.root, path.Join(revName(earlier), c.name), at)
			return was, err
		}
	}
	data, err := c.write()
	if err != nil {
		return fileFact{}, err
	}
	if err := durable.WriteFile(l.root, at, data, mode, owner); err != nil {
		return fileFact{}, err
	}
	_, fact, err := l.read(revision, c.name)
	fact.Source = source
	return fact, err
}

func sameFile(is, was fileFact) bool {
	return is.SHA256 == was.SHA256 && is.Mode == was.Mode && is.UID == was.UID && is.GID == was.GID
}

func owned(was fileFact, owner *durable.Owner) bool {
	if owner == nil {
		return was.UID == os.Geteuid()
	}
	return (owner.UID < 0 || owner.UID == was.UID) && (owner.GID < 0 || owner.GID == was.GID)
}

// ownerOf resolves the users that files are to belong to; nil: the agent's own.
func ownerOf(host *HostRules, f filesWish) (*durable.Owner, error) {
	if err := errors.Join(host.AllowUser(f.owner), host.AllowGroup(f.group)); err != nil {
		return nil, err
	}
	if f.owner == "" && f.group == "" {
		return nil, nil
	}
	owner := &durable.Owner{UID: -1, GID: -1}
	if f.owner != "" {
		account, err := user.Lookup(f.owner)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "owner of files").WithRemedy("make the user on this host, or name another in files.owner")
		}
		if owner.UID, err = strconv.Atoi(account.Uid); err != nil {
			return nil, err
		}
	}
	if f.group != "" {
		group, err := user.LookupGroup(f.group)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "group of files").WithRemedy("make the group on this host, or name another in files.group")
		}
		if owner.GID, err = strconv.Atoi(group.Gid); err != nil {
			return nil, err
		}
	}
	return owner, nil
}
