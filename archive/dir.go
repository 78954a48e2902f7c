package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Dir is where archives lie. Only its owner reads it.
type Dir string

// open makes the directory where it is missing, in one that exists.
func (d Dir) open() (*os.Root, error) {
	parent, err := os.OpenRoot(filepath.Dir(string(d)))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "open the directory of the archives")
	}
	defer parent.Close() //nolint:errcheck // it was only looked at
	if err := durable.Mkdir(parent, filepath.Base(string(d)), 0o700, nil); err != nil {
		return nil, err
	}
	return durable.OpenDir(parent, filepath.Base(string(d)))
}

// Put writes a file durably. What stands under its name already is left where
// it is the same, as after a crash; another content there can't be an archive,
// since it has not the hash that is its name.
func (d Dir) Put(m Manifest, packed []byte) error {
	root, err := d.open()
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // what counts was synced
	err = durable.CreateFile(root, m.File, packed, 0o600, nil)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	there, err := root.ReadFile(m.File)
	if err == nil && bytes.Equal(there, packed) {
		return durable.SyncDir(root, ".") // who wrote it may have died before
	}
	return durable.WriteFile(root, m.File, packed, 0o600, nil)
}

// Read returns a file's bytes, once they are what the manifest says.
func (d Dir) Read(m Manifest) ([]byte, error) {
	packed, err := d.raw(m.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "archive %s is missing in %s", m.File, d).
			WithRemedy("put it back from a backup; the audit log has its SHA-256: %s", m.SHA256)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "archive %s", m.File)
	}
	if sum := sha256.Sum256(packed); hex.EncodeToString(sum[:]) != m.SHA256 || int64(len(packed)) != m.Bytes {
		return nil, fault.New(fault.Conflict, "archive %s was altered: its SHA-256 is %x, the audit log says %s", m.File, sum, m.SHA256).
			WithRemedy("keep it aside, and put the right one back from a backup")
	}
	return packed, nil
}

// raw is what lies under a name, whatever that is.
func (d Dir) raw(name string) ([]byte, error) {
	if !fileName.MatchString(name) {
		return nil, fault.New(fault.Invalid, "%q is no archive's name", name)
	}
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // it was only read
	return root.ReadFile(name)
}

// Stray reads a file of which no manifest is known.
func (d Dir) Stray(name string) (Manifest, []Record, error) {
	packed, err := d.raw(name)
	if err != nil {
		return Manifest{}, nil, err
	}
	return Recognise(name, packed)
}

// Size is how large a file is that should be there; a missing one is NotFound.
func (d Dir) Size(name string) (int64, error) {
	info, err := os.Lstat(filepath.Join(string(d), name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fault.New(fault.NotFound, "archive %s is missing in %s", name, d)
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Names are the archives that lie in the directory, in the order of their names.
func (d Dir) Names() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the archives: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if fileName.MatchString(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Sweep removes what writes that were cut off left behind. Only the one process
// that writes there may call it, and not while it writes.
func (d Dir) Sweep() error {
	root, err := d.open()
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // nothing of its own was written
	_, err = durable.Sweep(root, ".")
	return err
}

// Remove removes a file.
func (d Dir) Remove(name string) error {
	root, err := d.open()
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // Remove syncs
	return durable.Remove(root, name)
}
