package audit

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// BadEntry says where a log is first not what was signed.
type BadEntry struct {
	Index  uint64 // the first bad one, or the first that may be
	End    uint64 // the first after those that may be; Index+1 when it is certain
	Reason string
}

func (e *BadEntry) Error() string {
	if e.End > e.Index+1 {
		return fmt.Sprintf("first bad index between %d and %d: %s", e.Index, e.End-1, e.Reason)
	}
	return fmt.Sprintf("first bad index %d: %s", e.Index, e.Reason)
}

func badEntry(index uint64, format string, args ...any) *BadEntry {
	return &BadEntry{index, index + 1, fmt.Sprintf(format, args...)}
}

// frontier is the complete subtrees of a log, greatest first: what is needed to
// go on hashing it, one hash for each bit of its size.
type frontier struct {
	size  uint64
	peaks []Hash
}

func (f *frontier) add(leaf Hash) {
	for rest := f.size; rest&1 == 1; rest >>= 1 {
		leaf = tlog.NodeHash(f.peaks[len(f.peaks)-1], leaf)
		f.peaks = f.peaks[:len(f.peaks)-1]
	}
	f.peaks = append(f.peaks, leaf)
	f.size++
}

func (f *frontier) root() Hash { return join(f.peaks) }

// Follower checks a log against all checkpoints that were seen of it while its
// leaf hashes go by in order.
type Follower struct {
	frontier
	left []Checkpoint // that the log has not come to, ascending
	good [2]uint64    // the sizes at which it last agreed with one, and before that
}

// NewFollower returns a check against the checkpoints, whose signatures are
// verified.
func NewFollower(checkpoints []Checkpoint) *Follower {
	left := slices.Clone(checkpoints)
	slices.SortFunc(left, func(a, b Checkpoint) int {
		if a.Size < b.Size {
			return -1
		}
		return int(min(a.Size-b.Size, 1))
	})
	return &Follower{left: left}
}

// Add takes the next leaf. The error is a *BadEntry.
func (f *Follower) Add(leaf Hash) error {
	if err := f.compare(); err != nil {
		return err
	}
	f.add(leaf)
	return f.compare()
}

// End says whether the log came to the last checkpoint.
func (f *Follower) End() error {
	if err := f.compare(); err != nil {
		return err
	}
	if len(f.left) > 0 {
		return badEntry(f.size, "it is missing: the log ends here, and was signed with %d entries", f.left[len(f.left)-1].Size)
	}
	return nil
}

func (f *Follower) compare() error {
	for len(f.left) > 0 && f.left[0].Size == f.size {
		if root := f.root(); root != f.left[0].Root {
			from := f.good[0]
			if from == f.size { // another of this size was right
				from = f.good[1]
			}
			return &BadEntry{from, max(f.size, from+1), fmt.Sprintf("the first %d entries do not give the root that was signed for them", f.size)}
		}
		if f.left = f.left[1:]; f.good[0] != f.size {
			f.good = [2]uint64{f.size, f.good[0]}
		}
	}
	return nil
}

// Export is what an export was found to be.
type Export struct {
	Checkpoint  Checkpoint
	Notes       [][]byte // its checkpoints as they were signed and cosigned, that one first
	Checkpoints int      // that were checked in all
	Last        []byte   // the newest entry
}

// VerifyExport reads an export to its end and checks all of it: the form of
// each line, the signature of each checkpoint, that each entry has its leaf
// hash and its proof, that none is missing, that the tree gives the root of
// each checkpoint in the export and of seen. What the export says of its key
// counts for nothing. progress is told how many of how many entries are done.
func VerifyExport(in io.Reader, v note.Verifier, seen []Checkpoint, progress func(done, of uint64)) (Export, error) {
	lines := bufio.NewReaderSize(in, maxExportLine)
	export, checkpoints, err := readHead(lines, v)
	if err != nil {
		return export, err
	}
	checkpoints = append(checkpoints, seen...)
	export.Checkpoints = len(checkpoints)
	follower, inclusions := NewFollower(checkpoints), NewInclusions(export.Checkpoint)
	var proof []Hash
	for index := uint64(0); ; index++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return export, follower.End()
		}
		if err != nil {
			return export, badEntry(index, "its line can't be read: %v", err)
		}
		e, err := ParseExported(line, proof)
		if err != nil {
			return export, badEntry(index, "%v", err)
		}
		if err := checkExported(e, index, inclusions); err != nil {
			return export, err
		}
		if err := follower.Add(e.Leaf); err != nil {
			return export, err
		}
		proof = e.Proof
		if index+1 == export.Checkpoint.Size {
			export.Last = slices.Clone(e.Content)
		}
		if index%1024 == 0 {
			progress(index, export.Checkpoint.Size)
		}
	}
}

func checkExported(e Exported, index uint64, inclusions *Inclusions) error {
	if e.Index != index {
		return badEntry(index, "entry %d stands in its place", e.Index)
	}
	if LeafHash(e.Content) != e.Leaf {
		return badEntry(index, "its content does not have its leaf hash")
	}
	if err := inclusions.Check(e.Proof, index, e.Leaf); err != nil {
		return badEntry(index, "%v", err)
	}
	return nil
}

// readHead reads all before the first entry.
func readHead(lines *bufio.Reader, v note.Verifier) (Export, []Checkpoint, error) {
	var export Export
	line, err := lines.ReadSlice('\n')
	if err != nil {
		return export, nil, fault.Wrap(fault.Invalid, err, "the export's header can't be read")
	}
	var header ExportHeader
	if err := parseStrict(line, &header); err != nil || header.Format != ExportFormat {
		return export, nil, fault.New(fault.Invalid, "the export's header is not one of %s", ExportFormat)
	}
	export.Notes = [][]byte{[]byte(header.Checkpoint)}
	if export.Checkpoint, err = openExported(header.Checkpoint, v); err != nil {
		return export, nil, err
	}
	checkpoints := []Checkpoint{export.Checkpoint}
	for i := range header.More {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return export, nil, fault.Wrap(fault.Invalid, err, "checkpoint %d of the export can't be read", i)
		}
		var one ExportCheckpoint
		if err := parseStrict(line, &one); err != nil {
			return export, nil, fault.Wrap(fault.Conflict, err, "checkpoint %d of the export", i)
		}
		checkpoint, err := openExported(one.Checkpoint, v)
		if err != nil {
			return export, nil, fault.Wrap(fault.Conflict, err, "checkpoint %d of the export", i)
		}
		checkpoints, export.Notes = append(checkpoints, checkpoint), append(export.Notes, []byte(one.Checkpoint))
	}
	return export, checkpoints, nil
}

// openExported opens a checkpoint of an export. Base64 leaves room for another
// spelling of the same signature, which an export does not have.
func openExported(signed string, v note.Verifier) (Checkpoint, error) {
	for line := range strings.Lines(signed) {
		signature, ok := strings.CutPrefix(line, "— ")
		if !ok {
			continue
		}
		_, text, _ := strings.Cut(strings.TrimSuffix(signature, "\n"), " ")
		if _, err := base64.StdEncoding.Strict().DecodeString(text); err != nil {
			return Checkpoint{}, fault.Wrap(fault.Conflict, err, "a signature of a checkpoint")
		}
	}
	return OpenCheckpoint([]byte(signed), v.Name(), v)
}
