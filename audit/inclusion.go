package audit

import (
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// span is a subtree: the entries from lo up to, without, hi.
type span struct{ lo, hi uint64 }

// split is how RFC 6962 section 2.1 divides a subtree: the left half is the
// greatest power of two below its size.
func (s span) split() (left, right span) {
	middle := s.lo + 1<<(bits.Len64(s.hi-s.lo-1)-1)
	return span{s.lo, middle}, span{middle, s.hi}
}

// path is the subtrees from the root of a tree of that size down to the entry.
func path(index, size uint64) []span {
	at := span{0, size}
	spans := []span{at}
	for at.hi-at.lo > 1 {
		left, right := at.split()
		if at = right; index < left.hi {
			at = left
		}
		spans = append(spans, at)
	}
	return spans
}

// Prover gives inclusion proofs for all entries of a tree in memory. It hashes
// each subtree once, for another 32 bytes an entry.
type Prover struct {
	size   uint64
	levels [][]Hash // of complete subtrees of 1, 2, 4, … entries
	edge   map[span]Hash
}

// NewProver returns a prover for the tree as it is now.
func NewProver(t *Tree) *Prover {
	p := &Prover{size: t.Size(), edge: map[span]Hash{}}
	row := make([]Hash, t.Size())
	for i := range row {
		row[i] = t.Leaf(uint64(i))
	}
	for ; len(row) > 0; row = halved(row) {
		p.levels = append(p.levels, row)
	}
	return p
}

func halved(row []Hash) []Hash {
	up := make([]Hash, len(row)/2)
	for i := range up {
		up[i] = tlog.NodeHash(row[2*i], row[2*i+1])
	}
	return up
}

// Prove is the inclusion proof of an entry that the tree has.
func (p *Prover) Prove(index uint64) []Hash {
	spans := path(index, p.size)
	proof := make([]Hash, 0, len(spans)-1)
	for i := len(spans) - 2; i >= 0; i-- {
		left, right := spans[i].split()
		if spans[i+1] == left {
			proof = append(proof, p.hash(right))
		} else {
			proof = append(proof, p.hash(left))
		}
	}
	return proof
}

func (p *Prover) hash(s span) Hash {
	if n := s.hi - s.lo; n&(n-1) == 0 { // split leaves none that is not aligned
		level := bits.TrailingZeros64(n)
		return p.levels[level][s.lo>>level]
	}
	if known, ok := p.edge[s]; ok {
		return known
	}
	left, right := s.split()
	p.edge[s] = tlog.NodeHash(p.hash(left), p.hash(right))
	return p.edge[s]
}

// Inclusions checks the inclusion proofs of many entries against one
// checkpoint. What two neighbours' proofs have in common is hashed once: in
// order, an entry costs two hashes and not twenty.
type Inclusions struct {
	cp     Checkpoint
	spans  []span // of the last entry that was proven
	hashes []Hash // of the spans
	proof  []Hash
}

// NewInclusions returns a check against the checkpoint.
func NewInclusions(cp Checkpoint) *Inclusions {
	return &Inclusions{cp: cp, spans: []span{{0, cp.Size}}, hashes: []Hash{cp.Root}}
}

// Check checks one entry. It holds what was proven before against it, so a
// failure is this entry's.
func (c *Inclusions) Check(proof []Hash, index uint64, leaf Hash) error {
	if index >= c.cp.Size {
		return fault.New(fault.Conflict, "the log of %d entries does not have it", c.cp.Size)
	}
	spans := path(index, c.cp.Size)
	wrong := fault.New(fault.Conflict, "its inclusion proof does not lead to the root that the checkpoint signs")
	if len(proof) != len(spans)-1 {
		return wrong
	}
	known := 0 // spans that were proven
	for known < min(len(spans), len(c.spans)) && spans[known] == c.spans[known] {
		known++
	}
	hashes := make([]Hash, len(spans))
	copy(hashes, c.hashes[:known])
	hash := leaf
	for i := len(spans) - 1; ; i-- {
		if i < known {
			if hash != hashes[i] || !slices.Equal(proof[len(proof)-i:], c.proof[len(c.proof)-i:]) {
				return wrong
			}
			break
		}
		hashes[i] = hash
		sibling := proof[len(spans)-1-i]
		if left, _ := spans[i-1].split(); spans[i] == left {
			hash = tlog.NodeHash(hash, sibling)
		} else {
			hash = tlog.NodeHash(sibling, hash)
		}
	}
	c.spans, c.hashes, c.proof = spans, hashes, slices.Clone(proof)
	return nil
}
