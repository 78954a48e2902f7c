package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Mkdir makes a directory with its owner and mode set before it is visible. A
// directory that stands there already is left as it is; anything else there is
// an error. The parent must exist.
func Mkdir(root *os.Root, name string, perm fs.FileMode, owner *Owner) error {
	return mkdir(root, name, perm, owner, nil)
}

func mkdir(root *os.Root, name string, perm fs.FileMode, owner *Owner, h hook) error {
	p, err := open(root, name, h)
	if err != nil {
		return fmt.Errorf("make directory %q: %w", name, err)
	}
	defer p.close()
	info, err := p.lookup()
	if err != nil {
		return fmt.Errorf("make directory %q: %w", name, err)
	}
	if info != nil && !info.IsDir() {
		return notADirectory(p.dir, p.base)
	}
	if info == nil {
		if err := p.makeDirectory(perm, owner); err != nil {
			return fmt.Errorf("make directory %q: %w", name, err)
		}
	}
	// Also where it stood already: the process that made it may have died
	// before its fsync.
	if err := p.sync(); err != nil {
		return fmt.Errorf("make directory %q: sync its parent: %w", name, err)
	}
	return nil
}

func (p *place) makeDirectory(perm fs.FileMode, owner *Owner) error {
	if err := p.hook.at("create"); err != nil {
		return err
	}
	temp := p.temporary()
	if err := p.dir.Mkdir(temp, 0o700); err != nil {
		return err
	}
	if err := p.ownDirectory(temp, perm, owner); err != nil {
		return errors.Join(err, p.dir.Remove(temp))
	}
	return p.rename(temp)
}

func (p *place) ownDirectory(temp string, perm fs.FileMode, owner *Owner) error {
	if err := p.hook.at("own"); err != nil {
		return err
	}
	f, err := p.dir.Open(temp)
	if err != nil {
		return err
	}
	defer f.Close()
	if owner != nil {
		if err := f.Chown(owner.UID, owner.GID); err != nil {
			return err
		}
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	return f.Sync()
}

// SwapSymlink lets link point to target in one atomic step. Whoever resolves
// link sees the old target or the new one, never none. The target must be
// relative and is not required to exist; a thing at link that is not a
// symbolic link is refused.
func SwapSymlink(root *os.Root, link, target string) error {
	return swapSymlink(root, link, target, nil)
}

func swapSymlink(root *os.Root, link, target string, h hook) error {
	if !filepath.IsLocal(target) {
		return fault.New(fault.Invalid, "target %q of link %q: must be relative and stay below it", target, link)
	}
	p, err := open(root, link, h)
	if err != nil {
		return fmt.Errorf("swap link %q: %w", link, err)
	}
	defer p.close()
	info, err := p.lookup()
	if err != nil {
		return fmt.Errorf("swap link %q: %w", link, err)
	}
	if info != nil && info.Mode().Type() != fs.ModeSymlink {
		return fault.New(fault.Conflict, "%s: must be a symbolic link", p.path()).
			WithRemedy("find out who put it there, then remove it")
	}
	if err := p.pointTo(target); err != nil {
		return fmt.Errorf("swap link %q: %w", link, err)
	}
	if err := p.sync(); err != nil {
		return fmt.Errorf("swap link %q: sync its directory: %w", link, err)
	}
	return nil
}

func (p *place) pointTo(target string) error {
	if now, err := p.dir.Readlink(p.base); err == nil && now == target {
		return nil
	}
	if err := p.hook.at("create"); err != nil {
		return err
	}
	temp := p.temporary()
	if err := p.dir.Symlink(target, temp); err != nil {
		return err
	}
	return p.rename(temp)
}

// OpenDir opens the directory name for work below it. Unlike root.OpenRoot it
// follows no symbolic links on the way.
func OpenDir(root *os.Root, name string) (*os.Root, error) {
	if filepath.Clean(name) == "." {
		return root.OpenRoot(".")
	}
	p, err := open(root, name, nil)
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", name, err)
	}
	defer p.close()
	dir, err := enter(p.dir, p.base, nil)
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", name, err)
	}
	return dir, nil
}

// SyncDir makes the entries of the directory name durable; "." is the root
// itself.
func SyncDir(root *os.Root, name string) error {
	dir, err := OpenDir(root, name)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer dir.Close()
	return syncDir(dir)
}

// Sweep removes what interrupted operations left in the directory name and
// answers how many there were. Only the one process that writes there may call
// it, and not while it writes.
func Sweep(root *os.Root, name string) (int, error) {
	entries, err := fs.ReadDir(root.FS(), filepath.ToSlash(filepath.Clean(name)))
	if err != nil {
		return 0, fmt.Errorf("sweep %q: %w", name, err)
	}
	removed := 0
	for _, entry := range entries {
		if !isTemporary(entry.Name()) {
			continue
		}
		if err := RemoveAll(root, filepath.Join(name, entry.Name())); err != nil {
			return removed, fmt.Errorf("sweep %q: %w", name, err)
		}
		removed++
	}
	return removed, nil
}
