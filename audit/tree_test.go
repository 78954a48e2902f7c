package audit

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// testLog is a log in memory: what the store keeps in its tables.
type testLog struct {
	*Tree
	entries [][]byte
}

func (l *testLog) ReadHashes(indexes []int64) ([]Hash, error) {
	return TileReader(l.ReadTile).ReadHashes(indexes)
}

func (l *testLog) grow(t testing.TB, contents ...[]byte) {
	t.Helper()
	var leaves []Hash
	for _, content := range contents {
		leaves = append(leaves, LeafHash(content))
	}
	if err := l.Append(leaves...); err != nil {
		t.Fatal(err)
	}
	l.entries = append(l.entries, contents...)
}

func (l *testLog) at(t testing.TB, size uint64) Checkpoint {
	t.Helper()
	root, err := l.RootAt(size)
	if err != nil {
		t.Fatal(err)
	}
	return Checkpoint{Origin: "example.org/audit", Size: size, Root: root}
}

func (l *testLog) prove(from, to uint64) ([]Hash, error) { return ProveConsistency(from, to, l) }

func all(entries [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, content := range entries {
			if !yield(content, nil) {
				return
			}
		}
	}
}

func contents(from, to int) [][]byte {
	var entries [][]byte
	for i := from; i < to; i++ {
		entries = append(entries, fmt.Appendf(nil, "entry %d", i))
	}
	return entries
}

func newLog(t testing.TB, size int) *testLog {
	l := &testLog{Tree: NewTree()}
	l.grow(t, contents(0, size)...)
	return l
}

// reference is RFC 6962 section 2.1, word by word.
func reference(entries [][]byte) Hash {
	switch len(entries) {
	case 0:
		return emptyRoot()
	case 1:
		return LeafHash(entries[0])
	}
	k := 1
	for k*2 < len(entries) {
		k *= 2
	}
	return tlog.NodeHash(reference(entries[:k]), reference(entries[k:]))
}

func TestEmptyRootIsRFC6962(t *testing.T) {
	const want = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" // SHA-256 of nothing
	if got := emptyRoot().String(); got != want {
		t.Errorf("root of the empty tree is %s, want %s", got, want)
	}
}

func TestAppendAgreesWithRFC6962(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLog(t, 0)
		for range rapid.IntRange(1, 8).Draw(rt, "batches") {
			size := len(l.entries)
			l.grow(t, contents(size, size+rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(200, 700)).Draw(rt, "batch"))...)
			if l.Root() != reference(l.entries) {
				rt.Fatalf("root at size %d differs", len(l.entries))
			}
			if err := VerifyLog(all(l.entries), l.at(t, uint64(len(l.entries)))); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

func TestAppendReportsWhatItCannotRead(t *testing.T) {
	l := newLog(t, 7)
	missing := func(int, uint64) ([]byte, error) { return nil, errors.New("no tile") }
	if _, _, err := Append(7, []Hash{{}}, missing); err == nil {
		t.Error("grew a tree whose hashes are missing")
	}
	for _, n := range []int{0, 3, 6, 8} { // 8: of a log that has grown since
		other := newLog(t, n)
		wrong := func(level int, index uint64) ([]byte, error) {
			if n == 0 {
				return nil, nil
			}
			return other.ReadTile(level, index)
		}
		if _, _, err := Append(7, []Hash{{}}, wrong); err == nil {
			t.Errorf("grew a tree of 7 by the tiles of one of %d", n)
		}
	}
	if _, err := l.RootAt(8); err == nil {
		t.Error("a root of a size that the tree never had")
	}
}

// Each entry of each small log is proven, and no proof fits anything else.
func TestInclusion(t *testing.T) {
	l := newLog(t, 300)
	for _, size := range []uint64{1, 2, 3, 7, 8, 255, 256, 257, 300} {
		cp := l.at(t, size)
		for index := range size {
			proof, err := ProveInclusion(index, size, TileReader(l.ReadTile))
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckInclusion(proof, index, l.Leaf(index), cp); err != nil {
				t.Fatalf("entry %d of %d: %v", index, size, err)
			}
			if CheckInclusion(proof, index, LeafHash([]byte("another")), cp) == nil || CheckInclusion(proof, index+1, l.Leaf(index), cp) == nil {
				t.Fatalf("entry %d of %d: the proof fits another entry", index, size)
			}
			for i := range proof {
				proof[i][5] ^= 1
				if CheckInclusion(proof, index, l.Leaf(index), cp) == nil {
					t.Fatalf("entry %d of %d: hash %d of the proof does not matter", index, size, i)
				}
				proof[i][5] ^= 1
			}
		}
	}
	if _, err := ProveInclusion(300, 300, TileReader(l.ReadTile)); err == nil {
		t.Error("proved an entry that the log does not have")
	}
}

func TestConsistencyAtAllSmallSizes(t *testing.T) {
	const limit = 70
	l, other := newLog(t, limit), newLog(t, 0)
	other.grow(t, contents(1000, 1000+limit)...)
	for to := uint64(0); to <= limit; to++ {
		for from := uint64(0); from <= to; from++ {
			proof, err := l.prove(from, to)
			if err != nil {
				t.Fatal(err)
			}
			old, now := l.at(t, from), l.at(t, to)
			if err := CheckConsistency(proof, old, now); err != nil {
				t.Errorf("from %d to %d: %v", from, to, err)
			}
			if from == 0 {
				continue
			}
			if CheckConsistency(proof, other.at(t, from), now) == nil {
				t.Errorf("from %d to %d: a foreign old root passed", from, to)
			}
			if CheckConsistency(proof, old, other.at(t, to)) == nil {
				t.Errorf("from %d to %d: a foreign new root passed", from, to)
			}
			if CheckConsistency(append(proof, Hash{}), old, now) == nil {
				t.Errorf("from %d to %d: a proof with a hash too many passed", from, to)
			}
			for i := range proof {
				spoiled := append([]Hash(nil), proof...)
				spoiled[i][0] ^= 1
				if CheckConsistency(spoiled, old, now) == nil {
					t.Errorf("from %d to %d: a proof with hash %d spoiled passed", from, to, i)
				}
			}
		}
	}
	if _, err := l.prove(3, 2); err == nil {
		t.Error("proved that a tree begins with a greater one")
	}
}

func TestCheckConsistencyRefusesOddCheckpoints(t *testing.T) {
	l := newLog(t, 4)
	proof, _ := l.prove(2, 4)
	foreign := l.at(t, 4)
	foreign.Origin = "example.com/audit"
	if CheckConsistency(proof, l.at(t, 2), foreign) == nil {
		t.Error("took checkpoints of two logs")
	}
	if CheckConsistency(nil, l.at(t, 4), l.at(t, 2)) == nil {
		t.Error("took checkpoints in the wrong order")
	}
	empty := l.at(t, 0)
	empty.Root[0] ^= 1
	if CheckConsistency(nil, empty, l.at(t, 2)) == nil {
		t.Error("took a wrong root of the empty tree")
	}
}

func TestVerifyLogFindsTampering(t *testing.T) {
	l := newLog(t, 37)
	cp := l.at(t, 37)
	if err := VerifyLog(all(l.entries), cp); err != nil {
		t.Fatal(err)
	}
	for i := range l.entries {
		changed := append([][]byte(nil), l.entries...)
		changed[i] = append([]byte("X"), changed[i]...)
		if VerifyLog(all(changed), cp) == nil {
			t.Errorf("entry %d was changed unnoticed", i)
		}
		removed := append(append([][]byte(nil), l.entries[:i]...), l.entries[i+1:]...)
		if VerifyLog(all(removed), cp) == nil {
			t.Errorf("entry %d was removed unnoticed", i)
		}
		if i > 0 {
			swapped := append([][]byte(nil), l.entries...)
			swapped[i], swapped[i-1] = swapped[i-1], swapped[i]
			if VerifyLog(all(swapped), cp) == nil {
				t.Errorf("entries %d and %d were exchanged unnoticed", i-1, i)
			}
		}
	}
	if VerifyLog(all(append(l.entries, []byte("more"))), cp) == nil {
		t.Error("an entry was added unnoticed")
	}
	broken := errors.New("disk on fire")
	err := VerifyLog(func(yield func([]byte, error) bool) { yield(nil, broken) }, cp)
	if !errors.Is(err, broken) {
		t.Errorf("a read error came out as %v", err)
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	signer, verifier := newKey(t, "example.org/audit")
	cp := newLog(t, 5).at(t, 5)
	msg, err := cp.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(msg), "example.org/audit\n5\n") {
		t.Errorf("checkpoint reads %q", msg)
	}
	got, err := OpenCheckpoint(msg, cp.Origin, verifier)
	if err != nil || got != cp {
		t.Errorf("opened %+v, %v", got, err)
	}
}

func TestOpenCheckpointRefuses(t *testing.T) {
	signer, verifier := newKey(t, "example.org/audit")
	_, stranger := newKey(t, "example.org/audit")
	foreignSigner, foreign := newKey(t, "example.com/audit")
	cp := newLog(t, 5).at(t, 5)
	msg, err := cp.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	root := cp.Root.String()
	sign := func(s note.Signer, text string) []byte {
		msg, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	if _, err := cp.Sign(foreignSigner); err == nil {
		t.Error("signed with the key of another log")
	}
	cases := map[string]struct {
		msg      []byte
		verifier note.Verifier
	}{
		"another key":       {msg, stranger},
		"another log's key": {msg, foreign},
		"changed size":      {[]byte(strings.Replace(string(msg), "\n5\n", "\n6\n", 1)), verifier},
		"unsigned":          {[]byte("example.org/audit\n5\n" + root + "\n"), verifier},
		"empty":             {nil, verifier},
		"foreign origin":    {sign(signer, "example.com/audit\n5\n"+root+"\n"), verifier},
		"extension line":    {sign(signer, "example.org/audit\n5\n"+root+"\nmore\n"), verifier},
		"no root":           {sign(signer, "example.org/audit\n5\n"), verifier},
		"short root":        {sign(signer, "example.org/audit\n5\nAAAA\n"), verifier},
		"leading zero":      {sign(signer, "example.org/audit\n05\n"+root+"\n"), verifier},
		"negative":          {sign(signer, "example.org/audit\n-5\n"+root+"\n"), verifier},
		"beyond an int64":   {sign(signer, "example.org/audit\n9223372036854775808\n"+root+"\n"), verifier},
		"too long":          {append(msg, make([]byte, maxCheckpoint)...), verifier},
	}
	for name, c := range cases {
		if got, err := OpenCheckpoint(c.msg, "example.org/audit", c.verifier); err == nil {
			t.Errorf("%s: opened as %+v", name, got)
		}
	}
}

func newKey(t testing.TB, name string) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey, err := NewLogKey(name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

func FuzzOpenCheckpoint(f *testing.F) {
	signer, verifier := newKey(f, "example.org/audit")
	msg, err := newLog(f, 5).at(f, 5).Sign(signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg, false)
	f.Add([]byte("example.org/audit\n5\n"+emptyRoot().String()+"\n"), true)
	f.Fuzz(func(t *testing.T, msg []byte, sign bool) {
		if sign { // reach the parser behind the signature
			signed, err := note.Sign(&note.Note{Text: string(msg)}, signer)
			if err != nil {
				return
			}
			msg = signed
		}
		cp, err := OpenCheckpoint(msg, "example.org/audit", verifier)
		if err != nil {
			return
		}
		again, err := cp.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := OpenCheckpoint(again, "example.org/audit", verifier); err != nil || got != cp {
			t.Fatalf("opens again as %+v, %v", got, err)
		}
	})
}
