package audit

import (
	"errors"
	"fmt"
	"iter"
	"math"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Hash is a SHA-256 of the tree.
type Hash = tlog.Hash

// LeafHash is the hash of an entry as the tree has it (RFC 6962 section 2.1).
func LeafHash(content []byte) Hash { return tlog.RecordHash(content) }

// Root is the root of the tree of size entries whose hashes read sees.
func Root(size uint64, read tlog.HashReader) (Hash, error) {
	if size > math.MaxInt64 {
		return Hash{}, fault.New(fault.Invalid, "audit tree of %d entries is too large", size)
	}
	return tlog.TreeHash(int64(size), read)
}

// ProveConsistency proves that the tree of size to begins with that of size
// from (RFC 6962 section 2.1.2). Between equal sizes, and from the empty tree,
// the proof is empty.
func ProveConsistency(from, to uint64, read tlog.HashReader) ([]Hash, error) {
	if from > to || to > math.MaxInt64 {
		return nil, fault.New(fault.Invalid, "consistency proof from %d to %d: the first must not be greater", from, to)
	}
	if from == 0 {
		return nil, nil
	}
	return tlog.ProveTree(int64(to), int64(from), read)
}

// ProveInclusion proves that the entry is in the tree of that size (RFC 6962
// section 2.1.1).
func ProveInclusion(index, size uint64, read tlog.HashReader) ([]Hash, error) {
	if index >= size || size > math.MaxInt64 {
		return nil, fault.New(fault.Invalid, "inclusion proof of entry %d: the log of %d entries does not have it", index, size)
	}
	return tlog.ProveRecord(int64(size), int64(index), read)
}

// CheckInclusion checks that proof shows the entry of this leaf hash at index
// in the log at checkpoint cp.
func CheckInclusion(proof []Hash, index uint64, leaf Hash, cp Checkpoint) error {
	if index >= cp.Size || cp.Size > math.MaxInt64 {
		return fault.New(fault.Conflict, "entry %d is not in the log of %d entries", index, cp.Size)
	}
	if err := tlog.CheckRecord(proof, int64(cp.Size), cp.Root, int64(index), leaf); err != nil {
		return fault.New(fault.Conflict, "entry %d is not the one that the checkpoint of %d entries covers", index, cp.Size)
	}
	return nil
}

var errInconsistent = errors.New("the newer log does not begin with the older one")

// CheckConsistency checks that proof shows that the log at checkpoint now
// begins with the log at checkpoint old.
func CheckConsistency(proof []Hash, old, now Checkpoint) error {
	switch {
	case old.Origin != now.Origin:
		return fault.New(fault.Invalid, "checkpoints are of two logs: %q, %q", old.Origin, now.Origin)
	case old.Size > now.Size:
		return fault.New(fault.Invalid, "checkpoints are in the wrong order: %d, %d", old.Size, now.Size)
	case now.Size > math.MaxInt64:
		return fault.New(fault.Invalid, "audit tree of %d entries is too large", now.Size)
	case old.Size == 0:
		if len(proof) != 0 || old.Root != emptyRoot() {
			return errInconsistent
		}
		return nil
	}
	if err := tlog.CheckTree(proof, int64(now.Size), now.Root, int64(old.Size), old.Root); err != nil {
		return errInconsistent
	}
	return nil
}

// Empty is the checkpoint of a log before its first entry.
func Empty(origin string) Checkpoint { return Checkpoint{Origin: origin, Root: emptyRoot()} }

func emptyRoot() Hash {
	root, _ := tlog.TreeHash(0, nil) // reads nothing
	return root
}

// VerifyLog recomputes the root from all entries' content, in order, and
// compares it with the checkpoint's. It holds one hash for each level of the
// tree in memory, whatever the length of the log.
func VerifyLog(entries iter.Seq2[[]byte, error], cp Checkpoint) error {
	var seen frontier
	for content, err := range entries {
		if err != nil {
			return fmt.Errorf("read audit entry %d: %w", seen.size, err)
		}
		if seen.size == cp.Size {
			return fault.New(fault.Conflict, "audit log: has more entries than the %d of its checkpoint", cp.Size)
		}
		seen.add(LeafHash(content))
	}
	if seen.size != cp.Size {
		return fault.New(fault.Conflict, "audit log: has %d entries, its checkpoint says %d", seen.size, cp.Size)
	}
	if root := seen.root(); root != cp.Root {
		return fault.New(fault.Conflict, "audit log: the entries hash to %s, the checkpoint of size %d says %s", root, cp.Size, cp.Root).
			WithRemedy("an entry was changed or exchanged; compare with a copy that a witness confirms")
	}
	return nil
}

func join(peaks []Hash) Hash {
	if len(peaks) == 0 {
		return emptyRoot()
	}
	root := peaks[len(peaks)-1]
	for i := len(peaks) - 2; i >= 0; i-- {
		root = tlog.NodeHash(peaks[i], root)
	}
	return root
}
