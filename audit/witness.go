package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Witness remembers the newest checkpoint that it saw, durably, and takes a
// newer one only with a proof that the log was grown and not rewritten. Once
// it has seen a fork it stays with it, over restarts too, until somebody
// removes the file that holds the two checkpoints: the log's owner can't talk
// it out of what it saw.
type Witness struct {
	root     *os.Root
	name     string
	origin   string
	verifier note.Verifier

	advancing sync.Mutex // held by the one Advance under way, also while it fetches a proof

	mu     sync.Mutex // guards what follows
	msg    []byte     // the newest checkpoint as signed; nil before the first
	newest Checkpoint
	fork   *ForkError
	turns  []Turn // that nobody has acknowledged
}

// ForkError is the proof, or the failure to disprove, that a log shows
// different histories to different readers. The two notes are what to take to
// whoever investigates.
type ForkError struct {
	Reason   string `json:"reason"`
	Seen     []byte `json:"seen"`     // the signed checkpoint that the witness holds
	Conflict []byte `json:"conflict"` // the signed checkpoint that does not go with it
}

func (e *ForkError) Error() string {
	return "audit log forked: " + e.Reason
}

// NewWitness opens the witness that keeps its checkpoint in the file name, or
// starts one.
func NewWitness(root *os.Root, name, origin string, v note.Verifier) (*Witness, error) {
	w := &Witness{root: root, name: name, origin: origin, verifier: v}
	msg, err := root.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read witness: %w", err)
	default:
		if w.newest, err = OpenCheckpoint(msg, origin, v); err != nil {
			return nil, fault.Wrap(fault.Conflict, err, "witness file %s", name).
				WithRemedy("restore it from a backup; removing it loses the memory of the log seen so far")
		}
		w.msg = msg
	}
	return w, errors.Join(w.readFork(), w.readTurns())
}

func (w *Witness) readFork() error {
	data, err := w.root.ReadFile(w.forkName())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read witness: %w", err)
	}
	fork := new(ForkError)
	if err := json.Unmarshal(data, fork); err != nil || fork.Reason == "" {
		fork = &ForkError{Reason: "recorded in " + w.forkName() + ", which can't be read", Seen: w.msg}
	}
	w.fork = fork
	return nil
}

func (w *Witness) forkName() string { return w.name + ".fork" }

// Origin is the log that is watched.
func (w *Witness) Origin() string { return w.origin }

// Verifier verifies what the log's key signed.
func (w *Witness) Verifier() note.Verifier { return w.verifier }

// Newest is the newest signed checkpoint that was accepted, or nil.
func (w *Witness) Newest() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.msg)
}

// Size is the size of the log at the newest checkpoint accepted.
func (w *Witness) Size() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest.Size
}

// Fork is the fork seen, or nil.
func (w *Witness) Fork() *ForkError {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fork
}

// Advance takes a signed checkpoint. prove fetches a consistency proof from
// the log; its failure is returned as it is and changes nothing. A checkpoint
// that is older and consistent is passed over. When the checkpoint contradicts
// the one held, or the proof does not hold, the error is a *ForkError, now and
// ever after.
func (w *Witness) Advance(msg []byte, prove func(from, to uint64) ([]Hash, error)) error {
	w.advancing.Lock()
	defer w.advancing.Unlock()
	if fork := w.Fork(); fork != nil {
		return fork
	}
	cp, err := OpenCheckpoint(msg, w.origin, w.verifier)
	if err != nil {
		return err
	}
	if w.msg == nil {
		return w.keep(msg, cp)
	}
	if cp.Size == w.newest.Size {
		if cp.Root != w.newest.Root {
			return w.forked(msg, fmt.Sprintf("two roots at size %d: %s, %s", cp.Size, w.newest.Root, cp.Root))
		}
		return nil
	}
	older, newer := w.newest, cp
	if cp.Size < w.newest.Size {
		older, newer = cp, w.newest
	}
	proof, err := prove(older.Size, newer.Size)
	if err != nil {
		return fmt.Errorf("fetch consistency proof from %d to %d: %w", older.Size, newer.Size, err)
	}
	if err := CheckConsistency(proof, older, newer); err != nil {
		return w.forked(msg, fmt.Sprintf("from size %d to %d: %v", older.Size, newer.Size, err))
	}
	if cp.Size < w.newest.Size {
		return nil
	}
	return w.keep(msg, cp)
}

func (w *Witness) keep(msg []byte, cp Checkpoint) error {
	if err := durable.WriteFile(w.root, w.name, msg, 0o600, nil); err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.msg, w.newest = bytes.Clone(msg), cp
	return nil
}

// forked remembers the fork in memory first: a full disk must not make the
// witness forget it while it runs.
func (w *Witness) forked(msg []byte, reason string) error {
	fork := &ForkError{Reason: reason, Seen: w.msg, Conflict: bytes.Clone(msg)}
	w.mu.Lock()
	w.fork = fork
	w.mu.Unlock()
	data, err := json.MarshalIndent(fork, "", "  ")
	if err == nil {
		err = durable.WriteFile(w.root, w.forkName(), append(data, '\n'), 0o600, nil)
	}
	if err != nil {
		return errors.Join(fork, fmt.Errorf("record the fork: %w", err))
	}
	return fork
}
