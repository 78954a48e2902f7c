package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// WriteFile puts data under name, replacing a regular file that stands there.
// Owner and mode are set before the content becomes visible; a nil owner
// leaves the process's own. On an error the old content stands whole, except
// when only the last fsync of the directory failed: then the new one stands
// and may not survive a loss of power.
func WriteFile(root *os.Root, name string, data []byte, perm fs.FileMode, owner *Owner) error {
	return writeFile(root, name, data, perm, owner, nil)
}

func writeFile(root *os.Root, name string, data []byte, perm fs.FileMode, owner *Owner, h hook) error {
	p, err := open(root, name, h)
	if err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	defer p.close()
	if err := p.replaceable(); err != nil {
		return err
	}
	temp, err := p.stage(data, perm, owner)
	if err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	if err := p.rename(temp); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	if err := p.sync(); err != nil {
		return fmt.Errorf("write %q: sync its directory: %w", name, err)
	}
	return nil
}

// CreateFile is WriteFile for a name that must not exist yet; where it does,
// the error is fs.ErrExist and the file there is left alone.
func CreateFile(root *os.Root, name string, data []byte, perm fs.FileMode, owner *Owner) error {
	return createFile(root, name, data, perm, owner, nil)
}

func createFile(root *os.Root, name string, data []byte, perm fs.FileMode, owner *Owner, h hook) error {
	p, err := open(root, name, h)
	if err != nil {
		return fmt.Errorf("create %q: %w", name, err)
	}
	defer p.close()
	temp, err := p.stage(data, perm, owner)
	if err != nil {
		return fmt.Errorf("create %q: %w", name, err)
	}
	err = p.hook.at("link")
	if err == nil {
		err = p.dir.Link(temp, p.base)
	}
	if err = errors.Join(err, p.dir.Remove(temp)); err != nil {
		return fmt.Errorf("create %q: %w", name, err)
	}
	if err := p.sync(); err != nil {
		return fmt.Errorf("create %q: sync its directory: %w", name, err)
	}
	return nil
}

// Link makes name another name of the regular file from: what did not change
// between two revisions is stored once. The name must not exist yet.
func Link(root *os.Root, from, name string) error {
	source, err := open(root, from, nil)
	if err != nil {
		return fmt.Errorf("link %q to %q: %w", from, name, err)
	}
	defer source.close()
	info, err := source.dir.Lstat(source.base)
	if err != nil {
		return fmt.Errorf("link %q to %q: %w", from, name, err)
	}
	if !info.Mode().IsRegular() {
		return source.notRegular()
	}
	p, err := open(root, name, nil)
	if err != nil {
		return fmt.Errorf("link %q to %q: %w", from, name, err)
	}
	defer p.close()
	// The two directories are reached through root again; that the link is
	// of the file looked at is checked on the result.
	if err := root.Link(from, name); err != nil {
		return fmt.Errorf("link %q to %q: %w", from, name, err)
	}
	linked, err := p.dir.Lstat(p.base)
	if err != nil {
		return fmt.Errorf("link %q to %q: %w", from, name, err)
	}
	if !os.SameFile(info, linked) {
		p.dir.Remove(p.base)
		return fault.New(fault.Conflict, "link %q to %q: the file was exchanged meanwhile", from, name)
	}
	return p.sync()
}

// Remove removes a file, a link or an empty directory. That it is gone already
// is no error.
func Remove(root *os.Root, name string) error {
	return remove(root, name, (*os.Root).Remove)
}

// RemoveAll removes name and all below it, following no links. That it is gone
// already is no error.
func RemoveAll(root *os.Root, name string) error {
	return remove(root, name, (*os.Root).RemoveAll)
}

func remove(root *os.Root, name string, how func(*os.Root, string) error) error {
	p, err := open(root, name, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %q: %w", name, err)
	}
	defer p.close()
	if err := how(p.dir, p.base); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %q: %w", name, err)
	}
	if err := p.sync(); err != nil {
		return fmt.Errorf("remove %q: sync its directory: %w", name, err)
	}
	return nil
}

// stage writes data to a temporary file beside the name, complete and fsynced.
func (p *place) stage(data []byte, perm fs.FileMode, owner *Owner) (temp string, err error) {
	if err := p.hook.at("create"); err != nil {
		return "", err
	}
	temp = p.temporary()
	f, err := p.dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	err = p.fill(f, data, perm, owner)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, p.dir.Remove(temp))
	}
	return temp, nil
}

func (p *place) fill(f *os.File, data []byte, perm fs.FileMode, owner *Owner) error {
	if err := p.hook.at("write"); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := p.hook.at("own"); err != nil {
		return err
	}
	if owner != nil {
		if err := f.Chown(owner.UID, owner.GID); err != nil {
			return err
		}
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if err := p.hook.at("sync"); err != nil {
		return err
	}
	return f.Sync()
}

func (p *place) rename(temp string) error {
	err := p.hook.at("rename")
	if err == nil {
		err = p.dir.Rename(temp, p.base)
	}
	if err != nil {
		return errors.Join(err, p.dir.RemoveAll(temp))
	}
	return nil
}

// replaceable refuses to write over anything but a regular file: a link or a
// directory in its place is somebody else's doing.
func (p *place) replaceable() error {
	info, err := p.lookup()
	if err != nil {
		return err
	}
	if info != nil && !info.Mode().IsRegular() {
		return p.notRegular()
	}
	return nil
}

func (p *place) notRegular() error {
	return fault.New(fault.Conflict, "%s: must be a regular file, not a link or a directory", p.path()).
		WithRemedy("find out who put it there, then remove it")
}
