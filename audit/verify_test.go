package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// exported is a log of n real entries as an export, its lines apart; the head
// is the first ones.
func exported(t testing.TB, n int, signer note.Signer, sizes ...uint64) (head, lines []string) {
	t.Helper()
	tree := NewTree()
	var entries [][]byte
	for i := range n {
		content, err := Entry{
			ID: fmt.Sprintf("0199c2f4-6a51-7c1e-8000-%012d", i), Time: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
			Actor: Actor{Kind: "operator", ID: "ann"}, Verb: "apply", Outcome: Done, Detail: map[string]any{"n": i},
		}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, content)
		if err := tree.Append(LeafHash(content)); err != nil {
			t.Fatal(err)
		}
	}
	sign := func(size uint64) string {
		root, err := tree.RootAt(size)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := Checkpoint{Origin: signer.Name(), Size: size, Root: root}.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		return string(msg)
	}
	line := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	}
	head = append(head, line(ExportHeader{Format: ExportFormat, LogKey: "theirs", Checkpoint: sign(uint64(n)), More: len(sizes)}))
	for _, size := range sizes {
		head = append(head, line(ExportCheckpoint{sign(size)}))
	}
	prover := NewProver(tree)
	for i, content := range entries {
		e := Exported{Index: uint64(i), Leaf: tree.Leaf(uint64(i)), Proof: prover.Prove(uint64(i)), Content: content}
		lines = append(lines, string(AppendExported(nil, e)))
	}
	return head, lines
}

func verifyExport(v note.Verifier, seen []Checkpoint, parts ...[]string) (Export, error) {
	var text strings.Builder
	for _, part := range parts {
		text.WriteString(strings.Join(part, ""))
	}
	return VerifyExport(strings.NewReader(text.String()), v, seen, func(uint64, uint64) {})
}

func TestExportVerifies(t *testing.T) {
	signer, verifier := newKey(t, "example.org/audit")
	for _, n := range []int{1, 2, 3, 255, 256, 257, 600} {
		head, lines := exported(t, n, signer, 0, 1, uint64(n/2))
		export, err := verifyExport(verifier, nil, head, lines)
		if err != nil || export.Checkpoint.Size != uint64(n) || export.Checkpoints != 4 || !strings.Contains(lines[n-1], string(export.Last)) {
			t.Errorf("%d entries: %+v, %v", n, export, err)
		}
		for i, line := range lines { // one proof each, as a standard tool checks it
			e, err := ParseExported([]byte(line), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckInclusion(e.Proof, uint64(i), LeafHash(e.Content), export.Checkpoint); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Any byte of an entry's line that is changed is found, and named by the index.
func TestExportNamesTheFirstBadIndex(t *testing.T) {
	signer, verifier := newKey(t, "example.org/audit")
	head, lines := exported(t, 11, signer, 5)
	bad := func(name string, index uint64, lines []string) {
		t.Helper()
		_, err := verifyExport(verifier, nil, head, lines)
		entry, ok := errors.AsType[*BadEntry](err)
		if !ok || entry.Index != index || entry.End != index+1 {
			t.Errorf("%s: %v, want index %d", name, err, index)
		}
	}
	with := func(i int, line string) []string {
		changed := append([]string(nil), lines...)
		changed[i] = line
		return changed
	}
	for _, i := range []int{0, 4, 10} {
		for at := range lines[i] {
			for _, flip := range []byte{1, 0x20, 0x80} {
				line := []byte(lines[i])
				line[at] ^= flip
				bad(fmt.Sprintf("byte %d of entry %d", at, i), uint64(i), with(i, string(line)))
			}
		}
	}
	for i := range lines {
		bad("removed", uint64(i), append(append([]string(nil), lines[:i]...), lines[i+1:]...))
		bad("cut", uint64(i), lines[:i])
		bad("cut within a line", uint64(i), append(append([]string(nil), lines[:i]...), lines[i][:20]))
		bad("twice", uint64(i)+1, append(append([]string(nil), lines[:i+1]...), lines[i:]...))
		if i > 0 {
			swapped := with(i, lines[i-1])
			swapped[i-1] = lines[i]
			bad("exchanged", uint64(i)-1, swapped)
			e, err := ParseExported([]byte(lines[i-1]), nil)
			if err != nil {
				t.Fatal(err)
			}
			e.Index = uint64(i)
			bad("another's, with its hash and proof", uint64(i), with(i, string(AppendExported(nil, e))))
		}
	}
	bad("one more", 11, append(append([]string(nil), lines...), lines[10]))
}

// Of the head each byte counts but for what it says of the key, by which
// nothing is checked.
func TestExportsHeadCounts(t *testing.T) {
	signer, verifier := newKey(t, "example.org/audit")
	stranger, _ := newKey(t, "example.org/audit")
	head, lines := exported(t, 11, signer, 5, 7)
	for i := range head {
		for at := range head[i] {
			if strings.Contains(head[i], "theirs") && at >= strings.Index(head[i], "theirs") && at < strings.Index(head[i], "theirs")+6 {
				continue
			}
			changed := append([]string(nil), head...)
			line := []byte(head[i])
			line[at] ^= 1
			changed[i] = string(line)
			if _, err := verifyExport(verifier, nil, changed, lines); err == nil {
				t.Errorf("byte %d of line %d does not matter", at, i)
			}
		}
	}
	for name, parts := range map[string][][]string{
		"a checkpoint less": {head[:2], lines}, "no head": {lines}, "nothing": {}, "no entries": {head},
	} {
		if _, err := verifyExport(verifier, nil, parts...); err == nil {
			t.Errorf("%s: verifies", name)
		}
	}
	forged, _ := exported(t, 11, stranger, 5, 7)
	if _, err := verifyExport(verifier, nil, forged, lines); err == nil {
		t.Error("signed by another key, it verifies")
	}
}

// Who has seen a checkpoint is not shown another log, though it be signed by
// the log's own key.
func TestExportAgainstCheckpointsSeen(t *testing.T) {
	signer, verifier := newKey(t, "example.org/audit")
	head, lines := exported(t, 20, signer)
	seen := func(size uint64, change byte) Checkpoint {
		longHead, _ := exported(t, 30, signer, size)
		var one ExportCheckpoint
		if err := json.Unmarshal([]byte(longHead[1]), &one); err != nil {
			t.Fatal(err)
		}
		cp, err := OpenCheckpoint([]byte(one.Checkpoint), verifier.Name(), verifier)
		if err != nil {
			t.Fatal(err)
		}
		cp.Root[0] ^= change
		return cp
	}
	if _, err := verifyExport(verifier, []Checkpoint{seen(20, 0), seen(4, 0), seen(0, 0)}, head, lines); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		cp         Checkpoint
		first, end uint64
	}{{seen(25, 0), 20, 21}, {seen(21, 0), 20, 21}, {seen(9, 1), 4, 9}, {seen(20, 1), 4, 20}} {
		_, err := verifyExport(verifier, []Checkpoint{c.cp, seen(4, 0)}, head, lines)
		entry, ok := errors.AsType[*BadEntry](err)
		if !ok || entry.Index != c.first || entry.End != c.end {
			t.Errorf("seen at %d: %v, want %d to %d", c.cp.Size, err, c.first, c.end)
		}
	}
}

func FuzzParseExported(f *testing.F) {
	signer, _ := newKey(f, "example.org/audit")
	_, lines := exported(f, 5, signer)
	for _, line := range lines {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := ParseExported(line, nil)
		if err == nil && !bytes.Equal(AppendExported(nil, e), line) {
			t.Errorf("%q is read, and written as another", line)
		}
	})
}
