package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

type witnessed struct {
	*Witness
	dir    string
	root   *os.Root
	signer note.Signer
	v      note.Verifier
	log    *testLog
}

func newWitnessed(t *testing.T, size int) *witnessed {
	t.Helper()
	w := &witnessed{dir: t.TempDir(), log: newLog(t, size)}
	w.signer, w.v = newKey(t, "example.org/audit")
	var err error
	if w.root, err = os.OpenRoot(w.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.root.Close() })
	w.reopen(t)
	return w
}

func (w *witnessed) reopen(t *testing.T) {
	t.Helper()
	var err error
	if w.Witness, err = NewWitness(w.root, "witness", "example.org/audit", w.v); err != nil {
		t.Fatal(err)
	}
}

func (w *witnessed) sign(t *testing.T, l *testLog, size uint64) []byte {
	t.Helper()
	msg, err := l.at(t, size).Sign(w.signer)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func TestWitnessFollowsAConsistentLog(t *testing.T) {
	w := newWitnessed(t, 30)
	if w.Newest() != nil {
		t.Fatal("a new witness has seen something")
	}
	for _, size := range []uint64{0, 1, 7, 7, 19, 12, 30} { // 12 is stale
		if err := w.Advance(w.sign(t, w.log, size), w.log.prove); err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
	}
	w.reopen(t)
	if got := w.Newest(); !bytes.Equal(got, w.sign(t, w.log, 30)) || w.Size() != 30 {
		t.Errorf("after a restart the newest is %s", got)
	}
}

func TestWitnessDetectsForks(t *testing.T) {
	other := newLog(t, 0)
	other.grow(t, contents(0, 10)...)
	other.grow(t, contents(500, 540)...)
	for name, size := range map[string]uint64{"same size": 20, "grown": 30, "smaller": 15} {
		t.Run(name, func(t *testing.T) {
			w := newWitnessed(t, 30)
			first := w.sign(t, w.log, 20)
			if err := w.Advance(first, w.log.prove); err != nil {
				t.Fatal(err)
			}
			rewritten := w.sign(t, other, size)
			for _, prove := range map[string]func(from, to uint64) ([]Hash, error){"its own": other.prove, "the first log's": w.log.prove} {
				fork, ok := errors.AsType[*ForkError](w.Advance(rewritten, prove))
				if !ok || !bytes.Equal(fork.Seen, first) || !bytes.Equal(fork.Conflict, rewritten) {
					t.Fatalf("rewritten log gave %v", fork)
				}
			}
			// It stays forked whatever comes, over a restart too.
			w.reopen(t)
			if fork := w.Fork(); fork == nil || !bytes.Equal(fork.Conflict, rewritten) {
				t.Errorf("after a restart: %v", fork)
			}
			if _, ok := errors.AsType[*ForkError](w.Advance(w.sign(t, w.log, 30), w.log.prove)); !ok {
				t.Error("a good checkpoint made the witness forget the fork")
			}
			if !bytes.Equal(w.Newest(), first) {
				t.Error("the newest checkpoint moved")
			}
		})
	}
}

func TestWitnessKeepsItsGroundWithoutAProof(t *testing.T) {
	w := newWitnessed(t, 30)
	first := w.sign(t, w.log, 20)
	if err := w.Advance(first, w.log.prove); err != nil {
		t.Fatal(err)
	}
	away := errors.New("server is away")
	err := w.Advance(w.sign(t, w.log, 30), func(uint64, uint64) ([]Hash, error) { return nil, away })
	if !errors.Is(err, away) || w.Fork() != nil {
		t.Errorf("no proof to be had: %v, fork %v", err, w.Fork())
	}
	_, stranger := newKey(t, "example.org/audit")
	w.v = stranger
	unsigned := append(bytes.Clone(first), []byte("x")...)
	if err := w.Advance(unsigned, w.log.prove); err == nil || w.Fork() != nil {
		t.Errorf("garbage: %v, fork %v", err, w.Fork())
	}
	if !bytes.Equal(w.Newest(), first) {
		t.Error("the newest checkpoint moved")
	}
}

func TestWitnessOnAFullDisk(t *testing.T) {
	w := newWitnessed(t, 30)
	first := w.sign(t, w.log, 20)
	if err := w.Advance(first, w.log.prove); err != nil {
		t.Fatal(err)
	}
	w.root.Close() // every write fails from here on
	if err := w.Advance(w.sign(t, w.log, 30), w.log.prove); err == nil {
		t.Error("advanced without a disk")
	}
	if !bytes.Equal(w.Newest(), first) {
		t.Error("holds a checkpoint that is not on disk")
	}
	other := newLog(t, 0)
	other.grow(t, contents(500, 520)...)
	if _, ok := errors.AsType[*ForkError](w.Advance(w.sign(t, other, 20), other.prove)); !ok {
		t.Error("a fork went unnoticed for want of a disk")
	}
	if w.Fork() == nil {
		t.Error("the fork was forgotten for want of a disk")
	}
}

func TestWitnessRefusesACorruptedFile(t *testing.T) {
	w := newWitnessed(t, 5)
	if err := w.Advance(w.sign(t, w.log, 5), w.log.prove); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, "witness")
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewWitness(w.root, "witness", "example.org/audit", w.v); err == nil {
		t.Error("opened a corrupted witness")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".fork", []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.reopen(t)
	if w.Fork() == nil {
		t.Error("a fork that can't be read counts as none")
	}
}
