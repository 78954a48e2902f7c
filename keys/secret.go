package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const maxSecret = 64 << 10 // bytes of a file

// The permissions that a secret's file must not have.
const (
	notOwner fs.FileMode = 0o077
	// systemd gives a service's user its credentials by an access control
	// list, whose mask then shows as permissions of the group.
	notOwnerOrList fs.FileMode = 0o007
)

// readSecret reads a regular file that has none of the forbidden permissions.
// It looks at the opened file, so that the file can't be exchanged between the
// look and the reading.
func readSecret(path, what string, forbidden fs.FileMode) ([]byte, error) {
	// Without O_NONBLOCK a pipe put there would hold us up for ever.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "%s %q does not exist", what, path).
			WithRemedy("put it back, or correct the path")
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", what, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", what, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, "%s %q is not a regular file", what, path)
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return nil, fault.New(fault.Invalid, "%s %q has mode %04o: others than its owner may get at it", what, path, mode).
			WithRemedy("chmod 600 %s", path)
	}
	if info.Size() > maxSecret {
		return nil, fault.New(fault.Invalid, "%s %q has %d bytes; the most is %d", what, path, info.Size(), maxSecret)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSecret))
	if err != nil {
		return nil, fmt.Errorf("read %s %q: %w", what, path, err)
	}
	if len(data) == 0 {
		return nil, fault.New(fault.Invalid, "%s %q is empty", what, path)
	}
	return data, nil
}

// createSecret writes a new file with mode 0600. The name appears with the
// whole content behind it, on the disk, or not at all; a crash in between leaves
// at most a temporary file. An existing file is never touched.
func createSecret(path, what string, data []byte) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("create %s %q: %w", what, path, err)
	}
	defer root.Close()
	err = durable.CreateFile(root, filepath.Base(path), data, 0o600, nil)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Conflict, "%s %q exists already", what, path).
			WithRemedy("move it away if it is no longer needed; it is never overwritten")
	}
	if err != nil {
		return fmt.Errorf("create %s %q: %w", what, path, err)
	}
	return nil
}
