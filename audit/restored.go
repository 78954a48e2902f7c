package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// VerbRestored is the verb of the entry by which a log goes on from an older
// copy of its store.
const VerbRestored = "store.restored"

// Restoration is what such an entry says: which epoch began with it, the log
// that it goes on from, and the one that witnesses had seen.
type Restoration struct {
	Epoch      uint64
	Kept, Seen Checkpoint
	Reason     string
}

// Fact is a checkpoint as it stands in an entry's detail.
func (c Checkpoint) Fact() map[string]any {
	return map[string]any{"size": c.Size, "root": c.Root.String()}
}

// ReadRestoration reads such an entry of the origin's log.
func ReadRestoration(content []byte, origin string) (Restoration, error) {
	entry, err := Decode(content)
	if err != nil {
		return Restoration{}, err
	}
	if entry.Verb != VerbRestored || entry.Outcome != Done {
		return Restoration{}, fault.New(fault.Invalid, "audit entry of %s: it is of no restore", entry.Verb)
	}
	r := Restoration{}
	r.Reason, _ = entry.Detail["reason"].(string)
	if r.Epoch, err = countIn(entry.Detail, "epoch"); err != nil {
		return r, err
	}
	if r.Kept, err = checkpointIn(entry.Detail, "kept", origin); err != nil {
		return r, err
	}
	r.Seen, err = checkpointIn(entry.Detail, "seen", origin)
	return r, err
}

func checkpointIn(detail map[string]any, key, origin string) (Checkpoint, error) {
	fact, _ := detail[key].(map[string]any)
	size, err := countIn(fact, "size")
	if err != nil {
		return Checkpoint{}, err
	}
	text, _ := fact["root"].(string)
	root, err := tlog.ParseHash(text)
	if err != nil {
		return Checkpoint{}, fault.Wrap(fault.Invalid, err, "audit entry of a restore: %s", key)
	}
	return Checkpoint{Origin: origin, Size: size, Root: root}, nil
}

func countIn(detail map[string]any, key string) (uint64, error) {
	// Numbers of entries are within ±(2^53-1), see Entry.
	if n, ok := detail[key].(float64); ok && n >= 0 && n == math.Trunc(n) {
		return uint64(n), nil
	}
	return 0, fault.New(fault.Invalid, "audit entry of a restore: %s is no number", key)
}

// Turn is that a log went on from an older copy of its store, as a witness of
// both took it: what it had seen, and where it goes on.
type Turn struct {
	Epoch    uint64 `json:"epoch"`
	Reason   string `json:"reason"`             // as the entry gives it
	Seen     []byte `json:"seen"`               // the signed checkpoint that the witness held
	Resumed  []byte `json:"resumed"`            // the signed checkpoint that has the entry
	Conflict []byte `json:"conflict,omitempty"` // of a fork that was seen before
	Entry    []byte `json:"entry"`
}

// Turns are those that nobody has acknowledged yet, the oldest first.
func (w *Witness) Turns() []Turn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.root.Stat(w.turnsName()); errors.Is(err, fs.ErrNotExist) {
		w.turns = nil // they were acknowledged
	}
	return slices.Clone(w.turns)
}

func (w *Witness) turnsName() string { return w.name + ".restored" }

func (w *Witness) readTurns() error {
	data, err := w.root.ReadFile(w.turnsName())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read witness: %w", err)
	}
	if err := json.Unmarshal(data, &w.turns); err != nil || len(w.turns) == 0 {
		return fault.New(fault.Conflict, "witness file %s can't be read", w.turnsName()).
			WithRemedy("look at it, and acknowledge the restores that it is about")
	}
	// A crash within Turn leaves the record without what follows it.
	if last := w.turns[len(w.turns)-1]; bytes.Equal(w.msg, last.Seen) {
		return w.resume(last)
	}
	return nil
}

// Turn takes that the log went on from an older copy of its store: signed is a
// checkpoint of the log as it is now, and entry is proven to be in it and says
// so. The witness goes on with that log. What it had seen before is kept beside
// it, with the entry, until somebody on this host acknowledges it: the log's
// owner can make a log go on from anywhere, but not in silence. It says whether
// that is news.
func (w *Witness) Turn(signed, entry []byte, index uint64, proof []Hash) (news bool, err error) {
	w.advancing.Lock()
	defer w.advancing.Unlock()
	cp, err := OpenCheckpoint(signed, w.origin, w.verifier)
	if err != nil {
		return false, err
	}
	if err := CheckInclusion(proof, index, LeafHash(entry), cp); err != nil {
		return false, err
	}
	said, err := ReadRestoration(entry, w.origin)
	if err != nil {
		return false, err
	}
	turns := w.Turns()
	if slices.ContainsFunc(turns, func(t Turn) bool { return t.Epoch == said.Epoch }) {
		return false, nil
	}
	turn := Turn{Epoch: said.Epoch, Reason: said.Reason, Seen: w.Newest(), Resumed: bytes.Clone(signed), Entry: bytes.Clone(entry)}
	if fork := w.Fork(); fork != nil {
		turn.Conflict = fork.Conflict
	}
	turns = append(turns, turn)
	data, err := json.MarshalIndent(turns, "", "  ")
	if err != nil {
		return false, err
	}
	if err := durable.WriteFile(w.root, w.turnsName(), append(data, '\n'), 0o600, nil); err != nil {
		return false, fmt.Errorf("record the restore: %w", err)
	}
	w.mu.Lock()
	w.turns = turns
	w.mu.Unlock()
	return true, w.resume(turn)
}

// resume goes on with the log after a turn whose record is durable.
func (w *Witness) resume(turn Turn) error {
	cp, err := OpenCheckpoint(turn.Resumed, w.origin, w.verifier)
	if err != nil {
		return err
	}
	if err := w.keep(turn.Resumed, cp); err != nil {
		return err
	}
	if err := durable.Remove(w.root, w.forkName()); err != nil {
		return fmt.Errorf("end the fork that a restore explains: %w", err)
	}
	w.mu.Lock()
	w.fork = nil
	w.mu.Unlock()
	return nil
}

// Acknowledge ends the alarm about turns: somebody on this host has looked at
// them. What was seen is kept under another name.
func Acknowledge(root *os.Root, name string, now time.Time) error {
	w := &Witness{root: root, name: name}
	data, err := root.ReadFile(w.turnsName())
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "there is no restore of the audit log to acknowledge")
	}
	if err != nil {
		return fmt.Errorf("read witness: %w", err)
	}
	kept := w.turnsName() + "." + now.UTC().Format("20060102T150405Z")
	if err := durable.WriteFile(root, kept, data, 0o600, nil); err != nil {
		return fmt.Errorf("keep what was acknowledged: %w", err)
	}
	return durable.Remove(root, w.turnsName())
}
