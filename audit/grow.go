package audit

import (
	"fmt"
	"math"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// HashSize is the length of a hash in a tile.
const HashSize = tlog.HashSize

// The hashes of a log are kept as it serves them: in tiles of 256 hashes, the
// hashes between two tiles' rows left out. So a log of n entries is n/256 rows
// of a table and not 2n, and what a proof needs is read in a few of them; the
// hashes in between are computed when they are asked for.

// HashTile is what the log has of one hash tile.
type HashTile struct {
	Level  int
	Index  uint64 // within the level
	Hashes []byte // up to TileWidth, HashSize bytes each
}

// TileReader reads what the log has of a hash tile: at least one hash.
type TileReader func(level int, index uint64) ([]byte, error)

// ReadHashes reads hashes by their place among tlog's stored hashes. It makes
// a TileReader what package tlog computes roots and proofs from.
func (read TileReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	type place struct {
		level int
		index int64
	}
	tiles := map[place][]byte{} // of this call: a proof needs several hashes of a tile
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		tile := tlog.TileForIndex(tileHeight, index)
		at := place{tile.L, tile.N}
		content, ok := tiles[at]
		if !ok {
			var err error
			if content, err = read(tile.L, uint64(tile.N)); err != nil {
				return nil, err
			}
			tiles[at] = content
		}
		if len(content) < tile.W*HashSize {
			return nil, fmt.Errorf("stored hash %d is beyond the tree", index)
		}
		var err error
		if hashes[i], err = tlog.HashFromTile(tile, content[:tile.W*HashSize], index); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// Append grows a tree of size entries by leaves. It returns the tiles that
// changed, as they are to be kept now, and the root of the grown tree. read
// sees the tiles kept so far.
func Append(size uint64, leaves []Hash, read TileReader) (grown []HashTile, root Hash, err error) {
	if size > math.MaxInt64-uint64(len(leaves)) {
		return nil, Hash{}, fault.New(fault.Invalid, "audit tree of %d entries is too large", size)
	}
	row, first := leaves, size
	for level := 0; len(row) > 0; level++ {
		tiles, complete, err := extend(level, first, row, read)
		if err != nil {
			return nil, Hash{}, fmt.Errorf("grow audit tree of %d: %w", size, err)
		}
		grown = append(grown, tiles...)
		row, first = complete, first/TileWidth
	}
	root, err = Root(size+uint64(len(leaves)), through(grown, read))
	if err != nil {
		return nil, Hash{}, fmt.Errorf("hash audit tree: %w", err)
	}
	return grown, root, nil
}

// extend appends hashes to the row of a level that has first of them. It
// returns the tiles that changed, and the roots of those that became full,
// which are what the level above grows by.
func extend(level int, first uint64, row []Hash, read TileReader) (tiles []HashTile, complete []Hash, err error) {
	for len(row) > 0 {
		tile := HashTile{Level: level, Index: first / TileWidth}
		has := int(first % TileWidth)
		if has > 0 {
			kept, err := read(level, tile.Index)
			if err != nil {
				return nil, nil, err
			}
			if len(kept) != has*HashSize {
				return nil, nil, fmt.Errorf("tile %d of level %d has %d bytes, want %d hashes", tile.Index, level, len(kept), has)
			}
			tile.Hashes = append(make([]byte, 0, TileWidth*HashSize), kept...)
		}
		take := min(len(row), TileWidth-has)
		for _, hash := range row[:take] {
			tile.Hashes = append(tile.Hashes, hash[:]...)
		}
		row, first = row[take:], first+uint64(take)
		tiles = append(tiles, tile)
		if has+take == TileWidth {
			complete = append(complete, tileRoot(tile.Hashes))
		}
	}
	return tiles, complete, nil
}

// tileRoot is the root of the subtree over a full tile's hashes.
func tileRoot(tile []byte) Hash {
	row := make([]Hash, TileWidth)
	for i := range row {
		row[i] = Hash(tile[i*HashSize:])
	}
	for ; len(row) > 1; row = row[:len(row)/2] {
		for i := range len(row) / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
	}
	return row[0]
}

// through reads fresh tiles first, and all others from read.
func through(fresh []HashTile, read TileReader) TileReader {
	return func(level int, index uint64) ([]byte, error) {
		for i := len(fresh) - 1; i >= 0; i-- { // the right edge is at the end
			if fresh[i].Level == level && fresh[i].Index == index {
				return fresh[i].Hashes, nil
			}
		}
		return read(level, index)
	}
}

// Tree is a whole log's tree in memory, 32 bytes an entry: what a reader has
// computed from the entries.
type Tree struct {
	size uint64
	root Hash
	rows [][]byte // by level
}

// NewTree returns the tree of the empty log.
func NewTree() *Tree { return &Tree{root: emptyRoot()} }

// Append grows the tree.
func (t *Tree) Append(leaves ...Hash) error {
	grown, root, err := Append(t.size, leaves, t.ReadTile)
	if err != nil {
		return err
	}
	for _, tile := range grown {
		if tile.Level == len(t.rows) {
			t.rows = append(t.rows, nil)
		}
		kept := t.rows[tile.Level][:tile.Index*TileWidth*HashSize]
		t.rows[tile.Level] = append(kept, tile.Hashes...)
	}
	t.size, t.root = t.size+uint64(len(leaves)), root
	return nil
}

// Size is the number of entries.
func (t *Tree) Size() uint64 { return t.size }

// Root is the tree's root.
func (t *Tree) Root() Hash { return t.root }

// Leaf is the hash of an entry.
func (t *Tree) Leaf(index uint64) Hash { return Hash(t.rows[0][index*HashSize:]) }

// ReadTile is a TileReader of the tree.
func (t *Tree) ReadTile(level int, index uint64) ([]byte, error) {
	from := index * TileWidth * HashSize
	if level >= len(t.rows) || from >= uint64(len(t.rows[level])) {
		return nil, fmt.Errorf("the tree of %d entries has no tile %d of level %d", t.size, index, level)
	}
	return t.rows[level][from:min(from+TileWidth*HashSize, uint64(len(t.rows[level])))], nil
}

// RootAt is the root that the tree had at an earlier size.
func (t *Tree) RootAt(size uint64) (Hash, error) {
	if size > t.size {
		return Hash{}, fmt.Errorf("the tree has %d entries, not %d", t.size, size)
	}
	return Root(size, TileReader(t.ReadTile))
}
