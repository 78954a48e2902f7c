package audit

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// TileWidth is the number of hashes in a full tile, and of entries in a full
// entry bundle.
const TileWidth = 256

const tileHeight = 8

// Tile names a piece of the log as C2SP tlog-tiles lays it out: a row of hashes,
// or the entries under a row of leaves.
type Tile struct {
	Entries bool   // the entries, not the hashes; Level is 0 then
	Level   int    // 0 to 63
	Index   uint64 // within the level
	Width   int    // 1 to 256; less than 256 is a partial tile
}

// Path is where the tile is served, without a leading slash:
// "tile/0/x001/x234/067", "tile/entries/000.p/7".
func (t Tile) Path() string {
	level := strconv.Itoa(t.Level)
	if t.Entries {
		level = "entries"
	}
	index := fmt.Sprintf("%03d", t.Index%1000)
	for rest := t.Index / 1000; rest > 0; rest /= 1000 {
		index = fmt.Sprintf("x%03d/%s", rest%1000, index)
	}
	path := "tile/" + level + "/" + index
	if t.Width < TileWidth {
		path += ".p/" + strconv.Itoa(t.Width)
	}
	return path
}

// ParseTilePath is the inverse of Path; it accepts no other spelling.
func ParseTilePath(path string) (Tile, error) {
	bad := fault.New(fault.Invalid, "tile path %q: must be like tile/0/x001/234 or tile/entries/000.p/7", path)
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok || len(path) > 64 {
		return Tile{}, bad
	}
	level, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return Tile{}, bad
	}
	t := Tile{Entries: level == "entries", Width: TileWidth}
	var err error
	if !t.Entries {
		if t.Level, err = strconv.Atoi(level); err != nil || t.Level < 0 || t.Level > 63 {
			return Tile{}, bad
		}
	}
	index, width, partial := strings.Cut(rest, ".p/")
	if partial {
		if t.Width, err = strconv.Atoi(width); err != nil || t.Width < 1 || t.Width >= TileWidth {
			return Tile{}, bad
		}
	}
	digits := strings.ReplaceAll(strings.ReplaceAll(index, "x", ""), "/", "")
	if t.Index, err = strconv.ParseUint(digits, 10, 64); err != nil {
		return Tile{}, bad
	}
	if t.Path() != path { // the rule for groups, leading zeros and signs in one line
		return Tile{}, bad
	}
	return t, nil
}

// within says whether a log of size entries has the tile, at least as wide.
func (t Tile) within(size uint64) bool {
	shift := tileHeight * t.Level
	if shift >= 64 || t.Width < 1 || t.Width > TileWidth {
		return false
	}
	row := size >> shift // complete hashes in the tile's bottom row
	return t.Index < row/TileWidth || t.Index == row/TileWidth && uint64(t.Width) <= row%TileWidth
}

// Range is the span of entries [from, to) of an entry bundle in a log of size
// entries.
func (t Tile) Range(size uint64) (from, to uint64, err error) {
	if !t.Entries || t.Level != 0 || !t.within(size) {
		return 0, 0, t.missing(size)
	}
	from = t.Index * TileWidth
	return from, from + uint64(t.Width), nil
}

// ReadTile is the content of a hash tile in a log of size entries: Width
// hashes of 32 bytes.
func ReadTile(t Tile, size uint64, read TileReader) ([]byte, error) {
	if t.Entries || t.Level < 0 || size > math.MaxInt64 || !t.within(size) {
		return nil, t.missing(size)
	}
	hashes, err := read(t.Level, t.Index)
	if err != nil {
		return nil, err
	}
	if len(hashes) < t.Width*HashSize {
		return nil, fmt.Errorf("%s: only %d hashes are stored", t.Path(), len(hashes)/HashSize)
	}
	return hashes[:t.Width*HashSize], nil
}

func (t Tile) missing(size uint64) error {
	return fault.New(fault.NotFound, "%s: the log of %d entries does not have it", t.Path(), size)
}

// EncodeEntries is an entry bundle: each entry behind its length in two bytes,
// big-endian.
func EncodeEntries(entries [][]byte) ([]byte, error) {
	var encoded []byte
	for i, content := range entries {
		if len(content) > MaxEntry {
			return nil, fault.New(fault.Invalid, "entry %d of a bundle: %d bytes, at most %d are allowed", i, len(content), MaxEntry)
		}
		encoded = binary.BigEndian.AppendUint16(encoded, uint16(len(content)))
		encoded = append(encoded, content...)
	}
	return encoded, nil
}

// ParseEntries is the inverse of EncodeEntries, for at most TileWidth entries.
// The entries share data's memory.
func ParseEntries(data []byte) ([][]byte, error) {
	var entries [][]byte
	for len(data) > 0 {
		if len(entries) == TileWidth {
			return nil, fault.New(fault.Invalid, "entry bundle: has more than %d entries", TileWidth)
		}
		if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
			return nil, fault.New(fault.Invalid, "entry bundle: entry %d is cut off", len(entries))
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		entries = append(entries, data[2:end:end])
		data = data[end:]
	}
	return entries, nil
}
