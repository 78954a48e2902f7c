package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// What lies in the state directory:
//
//	lock           held by the running agent; its process id
//	boot           the boot counter
//	desired        the newest desired state taken
//	identity/      current, previous, and the keys of what is being asked for
//	blobs/         bundles and bridges by digest
//	witness        the newest checkpoint of the audit log; witness.fork,
//	               witness.restored, witness.uncosigned
//	refused        why the server refused this copy of the state
//	placements/    the progress of each placement
const (
	lockFile       = "lock"
	bootFile       = "boot"
	desiredFile    = "desired"
	refusedFile    = "refused"
	witnessFile    = "witness"
	uncosignedFile = witnessFile + ".uncosigned"
	identityDir    = "identity"
	blobsDir       = "blobs"
	placementsDir  = "placements"
)

// stateDir is the agent's state directory, held by this process alone.
type stateDir struct {
	root *os.Root
	lock *os.File
}

// openState opens, and where need be makes, the state directory and takes its
// lock. Two agents on one directory would rotate the same files and show the
// server one identity twice.
func openState(path string) (*stateDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "state directory").WithRemedy("make it, for the agent's user to write")
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "state directory")
	}
	s := &stateDir{root: root}
	if err := s.prepare(path); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stateDir) prepare(path string) error {
	info, err := s.root.Stat(".")
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fault.New(fault.Invalid, "state directory %s: must not be writable by others (mode %v)", path, info.Mode().Perm()).
			WithRemedy("chmod go-w %s", path)
	}
	if err := s.takeLock(path); err != nil {
		return err
	}
	for _, dir := range []string{identityDir, blobsDir, placementsDir} {
		if err := durable.Mkdir(s.root, dir, 0o700, nil); err != nil {
			return err
		}
	}
	for _, dir := range []string{".", identityDir, blobsDir} {
		if _, err := durable.Sweep(s.root, dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *stateDir) takeLock(path string) error {
	f, err := s.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "lock of state directory %s", path)
	}
	s.lock = f
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := make([]byte, 16)
		n, _ := f.ReadAt(holder, 0)
		return fault.New(fault.Conflict, "state directory %s: is in use by another agent (process %s)", path, strings.TrimSpace(string(holder[:n]))).
			WithRemedy("one agent per directory; stop the other, or give this one its own with --state")
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("lock of state directory %s: %w", path, err)
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		return fmt.Errorf("lock of state directory %s: %w", path, err)
	}
	return nil
}

// close gives the directory free. The lock file stays: removing it would let
// two agents hold locks on two files of one name.
func (s *stateDir) close() error {
	var err error
	if s.lock != nil {
		err = s.lock.Close()
	}
	return errors.Join(err, s.root.Close())
}

// startBoot begins the boot counter at the time of an enrolment, in seconds. An
// agent opens fewer streams than seconds pass, so a host that comes back with
// an empty directory is not taken for an old copy of itself, while a copy made
// before is.
func (s *stateDir) startBoot(now time.Time) error {
	if boot, err := s.boot(); err == nil && boot >= uint64(now.Unix()) {
		return nil
	}
	return s.writeBoot(uint64(now.Unix()))
}

// raiseBoot adds one to the boot counter, durably, and returns it. Each stream
// shows a higher one than all before it, so two copies of this directory, or an
// old copy of it, can't both be served.
func (s *stateDir) raiseBoot() (uint64, error) {
	boot, err := s.boot()
	if err != nil {
		return 0, err
	}
	return boot + 1, s.writeBoot(boot + 1)
}

func (s *stateDir) boot() (uint64, error) {
	content, err := s.root.ReadFile(bootFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("boot counter: %w", err)
	}
	boot, err := strconv.ParseUint(strings.TrimSpace(string(content)), 10, 64)
	if err != nil {
		return 0, fault.New(fault.Conflict, "boot counter: %s of the state directory holds no number, so no server can tell this agent from a copy", bootFile).
			WithRemedy("on the control plane: rotunda agent list, rotunda agent rejoin ID; start this agent with that token")
	}
	return boot, nil
}

func (s *stateDir) writeBoot(boot uint64) error {
	if err := durable.WriteFile(s.root, bootFile, fmt.Appendf(nil, "%d\n", boot), 0o600, nil); err != nil {
		return fmt.Errorf("boot counter: %w", err)
	}
	return nil
}
