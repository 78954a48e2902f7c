// Package durable changes files so that a crash leaves the old state or the
// new one, whole, and so that what returned without an error survives a loss
// of power.
//
// Every function works below an *os.Root and so can't be led out of it. A
// directory on the way that turns out to be a symbolic link is refused too:
// who may write to one directory of a tree must not choose where in the tree
// we write. The steps are always the same: write to a temporary name, set
// owner and mode, fsync, rename, fsync the directory. Nothing is visible under
// its name before it is complete.
//
// A crash may leave a temporary file, named ".<name>.<random>.tmp". Sweep
// removes such leftovers; nothing reads them.
package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Owner is the numeric user and group that a file is given before it becomes
// visible. -1 leaves that half as it is.
type Owner struct {
	UID, GID int
}

// hook, when set, is called before each step of an operation and can fail it.
// Tests use it to stop, or to kill the process, between any two steps.
type hook func(step string) error

func (h hook) at(step string) error {
	if h == nil {
		return nil
	}
	return h(step)
}

// place is the directory that holds a name. It is opened once, so that all
// steps of an operation meet the same directory whatever is renamed meanwhile.
type place struct {
	dir   *os.Root
	base  string
	owned bool
	hook  hook
}

func (p *place) close() {
	if p.owned {
		p.dir.Close()
	}
}

// open walks to the directory of name one component at a time.
func open(root *os.Root, name string, h hook) (*place, error) {
	name = filepath.Clean(name)
	if !filepath.IsLocal(name) || name == "." {
		return nil, fault.New(fault.Invalid, "file name %q: must be relative and stay below %s", name, root.Name())
	}
	components := strings.Split(name, string(filepath.Separator))
	p := &place{dir: root, base: components[len(components)-1], hook: h}
	for _, component := range components[:len(components)-1] {
		next, err := enter(p.dir, component, h)
		p.close()
		if err != nil {
			return nil, fmt.Errorf("open directory of %q: %w", name, err)
		}
		p.dir, p.owned = next, true
	}
	return p, nil
}

// enter opens a subdirectory that is no symbolic link. The comparison after
// opening closes the moment between looking and opening.
func enter(dir *os.Root, component string, h hook) (*os.Root, error) {
	seen, err := dir.Lstat(component)
	if err != nil {
		return nil, err
	}
	if !seen.IsDir() {
		return nil, notADirectory(dir, component)
	}
	if err := h.at("enter"); err != nil {
		return nil, err
	}
	next, err := dir.OpenRoot(component)
	if err != nil {
		return nil, err
	}
	opened, err := next.Stat(".")
	if err != nil {
		next.Close()
		return nil, err
	}
	if !os.SameFile(seen, opened) {
		next.Close()
		return nil, notADirectory(dir, component)
	}
	return next, nil
}

func notADirectory(dir *os.Root, component string) error {
	return fault.New(fault.Conflict, "%s: must be a directory, not a link or a file", filepath.Join(dir.Name(), component)).
		WithRemedy("find out who put it there, then remove it")
}

// lookup is Lstat that answers nil for what does not exist.
func (p *place) lookup() (fs.FileInfo, error) {
	info, err := p.dir.Lstat(p.base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return info, err
}

func (p *place) path() string { return filepath.Join(p.dir.Name(), p.base) }

// sync makes the directory's entries durable.
func (p *place) sync() error {
	if err := p.hook.at("sync directory"); err != nil {
		return err
	}
	return syncDir(p.dir)
}

func syncDir(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}

func (p *place) temporary() string {
	var random [8]byte
	rand.Read(random[:])
	return "." + p.base + "." + hex.EncodeToString(random[:]) + ".tmp"
}

func isTemporary(name string) bool {
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp")
}
