package audit

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// tiles reads hashes from our tiles alone, through tlog's own client, which
// authenticates each tile against the root.
type tiles struct {
	log  *testLog
	size uint64
}

func (tiles) Height() int                         { return tileHeight }
func (tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

func (r tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var contents [][]byte
	for _, w := range wanted {
		t, err := ParseTilePath(Tile{Level: w.L, Index: uint64(w.N), Width: w.W}.Path())
		if err != nil {
			return nil, err
		}
		content, err := ReadTile(t, r.size, r.log.ReadTile)
		if err != nil {
			return nil, err
		}
		contents = append(contents, content)
	}
	return contents, nil
}

func TestTilesAgreeWithTlog(t *testing.T) {
	l := newLog(t, 70_000) // three levels
	for _, size := range []uint64{1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000} {
		cp := l.at(t, size)
		reader := tlog.TileHashReader(tlog.Tree{N: int64(size), Hash: cp.Root}, tiles{l, size})
		root, err := tlog.TreeHash(int64(size), reader)
		if err != nil || root != cp.Root {
			t.Errorf("size %d: root from tiles %v, %v", size, root, err)
		}
		for _, index := range []uint64{0, size / 2, size - 1} {
			proof, err := tlog.ProveRecord(int64(size), int64(index), reader)
			if err != nil {
				t.Fatalf("size %d, entry %d: %v", size, index, err)
			}
			if err := tlog.CheckRecord(proof, int64(size), cp.Root, int64(index), LeafHash(l.entries[index])); err != nil {
				t.Errorf("size %d, entry %d: %v", size, index, err)
			}
		}
		fromTiles, err := ProveConsistency(size/2, size, reader)
		if err != nil {
			t.Fatal(err)
		}
		if direct, _ := l.prove(size/2, size); !slices.Equal(fromTiles, direct) {
			t.Errorf("size %d: the consistency proof from tiles differs", size)
		}
	}
}

func TestReadTileKnowsTheLogsEnd(t *testing.T) {
	l := newLog(t, 600)
	for path, ok := range map[string]bool{
		"tile/0/000":           true,
		"tile/0/000.p/17":      true, // of a full tile
		"tile/0/001":           true,
		"tile/0/002.p/88":      true,
		"tile/0/002.p/1":       true,
		"tile/0/002.p/89":      false,
		"tile/0/002":           false,
		"tile/0/003.p/1":       false,
		"tile/1/000.p/2":       true,
		"tile/1/000.p/3":       false,
		"tile/1/000":           false,
		"tile/2/000.p/1":       false,
		"tile/63/000.p/1":      false,
		"tile/entries/000":     false, // no hashes
		"tile/0/x999/999":      false,
		"tile/0/x999/x999/999": false,
	} {
		tile, err := ParseTilePath(path)
		if err != nil {
			t.Fatal(err)
		}
		content, err := ReadTile(tile, 600, l.ReadTile)
		if (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
		if err == nil && len(content) != tile.Width*tlog.HashSize {
			t.Errorf("%s: %d bytes", path, len(content))
		}
	}
}

func TestEntryRange(t *testing.T) {
	for path, want := range map[string][2]uint64{
		"tile/entries/000":      {0, 256},
		"tile/entries/002.p/88": {512, 600},
		"tile/entries/002.p/89": {},
		"tile/entries/002":      {},
		"tile/0/000":            {},
	} {
		tile, err := ParseTilePath(path)
		if err != nil {
			t.Fatal(err)
		}
		from, to, err := tile.Range(600)
		if got := [2]uint64{from, to}; got != want || (err == nil) != (want != [2]uint64{}) {
			t.Errorf("%s: %v, %v, want %v", path, got, err, want)
		}
	}
}

func TestTilePaths(t *testing.T) {
	for path, want := range map[string]Tile{
		"tile/0/x001/x234/067":                     {Index: 1234067, Width: 256},
		"tile/0/x001/x234/067.p/8":                 {Index: 1234067, Width: 8},
		"tile/63/000.p/255":                        {Level: 63, Width: 255},
		"tile/entries/x123/456.p/1":                {Entries: true, Index: 123456, Width: 1},
		"tile/2/x018/x446/x744/x073/x709/x551/615": {Level: 2, Index: 1<<64 - 1, Width: 256},
	} {
		got, err := ParseTilePath(path)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", path, got, err, want)
		}
		if want.Path() != path {
			t.Errorf("%+v: path %s, want %s", want, want.Path(), path)
		}
	}
	for _, path := range []string{
		"", "tile", "tile/0", "tile/0/", "tile/0/0", "tile/0/0000", "tile/00/000", "tile/-1/000", "tile/+1/000", "tile/64/000",
		"tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/08", "tile/0/000.p/", "tile/0/000.p/-1", "tile/0/x000/001",
		"tile/0/001/002", "tile/0/x001", "tile/0/000/", "/tile/0/000", "tile/data/000", "tile/8/0/000", "tile/0/x1/234",
		"tile/2/x018/x446/x744/x073/x709/x551/616", "tile/0/" + strings.Repeat("x001/", 20) + "001",
	} {
		if got, err := ParseTilePath(path); err == nil {
			t.Errorf("%q: parsed as %+v", path, got)
		}
	}
}

func FuzzParseTilePath(f *testing.F) {
	f.Add("tile/0/x001/x234/067.p/8")
	f.Add("tile/entries/000")
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := ParseTilePath(path)
		if err == nil && tile.Path() != path {
			t.Fatalf("%q parsed as %+v, whose path is %q", path, tile, tile.Path())
		}
	})
}

func TestEntryBundles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 0, TileWidth).Draw(t, "entries")
		encoded, err := EncodeEntries(entries)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := ParseEntries(encoded)
		if err != nil || !slices.EqualFunc(parsed, entries, bytes.Equal) {
			t.Fatalf("parsed %q, %v", parsed, err)
		}
		if len(encoded) > 0 {
			cut := rapid.IntRange(0, len(encoded)-1).Draw(t, "cut")
			if parsed, err := ParseEntries(encoded[:cut]); err == nil && len(parsed) >= len(entries) {
				t.Fatalf("cut at %d of %d went unnoticed", cut, len(encoded))
			}
		}
	})
	if _, err := EncodeEntries([][]byte{make([]byte, MaxEntry+1)}); err == nil {
		t.Error("encoded an entry longer than its length field")
	}
	if _, err := ParseEntries(make([]byte, 2*(TileWidth+1))); err == nil {
		t.Error("parsed more entries than a tile has")
	}
}

func FuzzParseEntries(f *testing.F) {
	f.Add([]byte{0, 1, 'x', 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := ParseEntries(data)
		if err != nil {
			return
		}
		again, err := EncodeEntries(entries)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("encodes again as %x, %v", again, err)
		}
	})
}
