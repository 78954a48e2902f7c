// Package socket opens unix sockets in the place of those that dead processes
// left behind.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Listen opens a unix socket at the path, with the mode, and makes the
// directories on the way. A socket that nobody serves any more is replaced. One
// that is served is a Conflict, and so is anything there that is no socket:
// neither is touched.
func Listen(path string, mode fs.FileMode) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	if err := clear(path); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("make socket: %w", err), listener.Close())
	}
	return listener, nil
}

// clear removes a socket that nobody serves.
func clear(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fault.New(fault.Conflict, "%s is no socket, and stands where one is to be", path).
			WithRemedy("correct the path, or move what stands there away")
	}
	if conn, err := net.Dial("unix", path); err == nil {
		return errors.Join(fault.New(fault.Conflict, "another process serves %s", path).
			WithRemedy("stop it, or name another path"), conn.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("replace socket: %w", err)
	}
	return nil
}
