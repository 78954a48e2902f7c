package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// lockBeside takes the store at path for this process: a flock on a file
// beside it, which holds the owner's process id for people to read. The kernel
// frees it when the process ends, however it ends. SQLite's own locks would let
// two servers take turns, each with the last commit's time in its memory.
func lockBeside(path string) (*os.File, error) {
	file, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "lock store %s", path)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		refusal := fault.New(fault.Conflict, "store %s is in use by %s", path, owner(file)).
			WithRemedy("stop that process; one SQLite store serves one server")
		return nil, errors.Join(refusal, file.Close())
	}
	if err == nil {
		err = signLock(file)
	}
	if err != nil {
		return nil, errors.Join(fault.Wrap(fault.Unavailable, err, "lock store %s", path), file.Close())
	}
	return file, nil
}

func owner(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, 32))
	if pid := strings.TrimSpace(string(text)); err == nil && pid != "" {
		return "process " + pid
	}
	return "another process"
}

func signLock(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(file, os.Getpid())
	return err
}
