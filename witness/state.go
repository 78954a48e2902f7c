package witness

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const (
	keyFile  = "key"
	lockFile = "lock"
)

// CreateKey makes the witness's key in its directory. There must be none yet.
func CreateKey(root *os.Root, name string) (audit.Cosigner, error) {
	key, err := audit.NewCosigningKey(name)
	if err != nil {
		return audit.Cosigner{}, err
	}
	err = durable.CreateFile(root, keyFile, []byte(key.SecretKey()+"\n"), 0o600, nil)
	if errors.Is(err, fs.ErrExist) {
		return audit.Cosigner{}, fault.New(fault.Conflict, "%s holds a witness's key already", root.Name()).
			WithRemedy("a new key is a new witness: take another directory")
	}
	if err != nil {
		return audit.Cosigner{}, fmt.Errorf("keep the witness's key: %w", err)
	}
	return key.Cosigner(), nil
}

// State is what a witness remembers: its key, and of each log the newest
// checkpoint that it cosigned. It lies in one directory, which one process has
// at a time: of two on it each could cosign what the other must not.
type State struct {
	root *os.Root
	lock *os.File
	key  audit.CosigningKey
	logs map[string]*watched // by origin
	now  func() time.Time
	log  *slog.Logger
}

// watched is one log. Its mutex is held from the look at the newest checkpoint
// until the next one is durable, or two requests could go different ways.
type watched struct {
	verifier note.Verifier
	file     string

	mu     sync.Mutex
	signed []byte // with the witness's own line; nil before the first
	newest audit.Checkpoint
}

// Open opens the witness in a directory for the logs of these keys.
func Open(root *os.Root, logKeys []string, now func() time.Time, log *slog.Logger) (*State, error) {
	s := &State{root: root, logs: map[string]*watched{}, now: now, log: log}
	if err := s.take(); err != nil {
		return nil, err
	}
	if err := s.read(logKeys); err != nil {
		s.lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *State) read(logKeys []string) error {
	if _, err := durable.Sweep(s.root, "."); err != nil {
		return err
	}
	text, err := s.root.ReadFile(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "%s holds no witness's key", s.root.Name()).WithRemedy("make one with rotunda audit witness key")
	}
	if err != nil {
		return fmt.Errorf("read the witness's key: %w", err)
	}
	if s.key, err = audit.ReadCosigningKey(string(text)); err != nil {
		return err
	}
	for _, text := range logKeys {
		if err := s.watch(text); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) watch(logKey string) error {
	verifier, err := note.NewVerifier(logKey)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "log key %.80q", logKey).WithRemedy("it is one line like DOMAIN/audit+1a2b3c4d+AbCd…")
	}
	origin := verifier.Name()
	if s.logs[origin] != nil {
		return fault.New(fault.Invalid, "two keys are given for the log %s", origin)
	}
	id := sha256.Sum256([]byte(origin))
	w := &watched{verifier: verifier, file: hex.EncodeToString(id[:16]) + ".checkpoint", newest: audit.Empty(origin)}
	w.signed, err = s.root.ReadFile(w.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read what was cosigned of %s: %w", origin, err)
	default:
		if w.newest, err = audit.OpenCheckpoint(w.signed, origin, verifier); err != nil {
			return fault.Wrap(fault.Conflict, err, "file %s of what was cosigned", w.file).
				WithRemedy("restore it; without it this key must not be used any more, since it could be made to cosign a fork")
		}
	}
	s.logs[origin] = w
	return nil
}

// take makes the directory this process's, before anything in it is read.
func (s *State) take() error {
	file, err := s.root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the witness's directory: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return fault.New(fault.Conflict, "another process is the witness in %s", s.root.Name()).WithRemedy("stop it first: two could cosign two histories")
	}
	s.lock = file
	return nil
}

// Close gives the directory back.
func (s *State) Close() error { return s.lock.Close() }

// Cosigner is the witness's public key.
func (s *State) Cosigner() audit.Cosigner { return s.key.Cosigner() }

// Newest is the newest checkpoint cosigned of a log, with the cosignature; nil
// before the first, and of logs that are not watched.
func (s *State) Newest(origin string) []byte {
	w := s.logs[origin]
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.signed)
}

// keep makes a checkpoint durable, and only then hands out its cosignature: a
// crash between the two leaves a witness that has seen more than it said.
func (s *State) keep(w *watched, cp audit.Checkpoint, signed []byte) ([]byte, error) {
	bare, err := audit.Bare(signed, w.verifier)
	if err != nil {
		return nil, err
	}
	line := s.key.Cosign(cp, s.now())
	kept := slices.Concat(bare, line)
	if err := durable.WriteFile(s.root, w.file, kept, 0o600, nil); err != nil {
		return nil, fmt.Errorf("keep the checkpoint: %w", err)
	}
	w.newest, w.signed = cp, kept
	return line, nil
}
