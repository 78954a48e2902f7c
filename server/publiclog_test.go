package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/fleettest"
)

// tileClient reads a log by nothing but C2SP tlog-tiles and package tlog.
type tileClient struct {
	t    *testing.T
	base string
}

// fetchedPath is where C2SP tlog-tiles puts a hash tile, which is not where the
// Go checksum database has it.
func fetchedPath(tile tlog.Tile) string {
	text := fmt.Sprintf("%03d", tile.N%1000)
	for n := tile.N / 1000; n > 0; n /= 1000 {
		text = fmt.Sprintf("x%03d/%s", n%1000, text)
	}
	if tile.W < 1<<tile.H {
		text += fmt.Sprintf(".p/%d", tile.W)
	}
	return fmt.Sprintf("tile/%d/%s", tile.L, text)
}

func (c tileClient) Height() int { return 8 }

func (c tileClient) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		code, body := get(c.t, c.base+fetchedPath(tile))
		if code != http.StatusOK {
			return nil, fmt.Errorf("%s: %d %s", fetchedPath(tile), code, body)
		}
		all = append(all, []byte(body))
	}
	return all, nil
}

func (c tileClient) SaveTiles([]tlog.Tile, [][]byte) {}

// A reader that is not ours proves entries and growth by the tiles.
func TestStandardReaderProvesTheLog(t *testing.T) {
	p := fleettest.NewPlane(t)
	base := "http://" + p.Config.Listen.Public + "/log/"
	verifier, err := note.NewVerifier(p.LogKey())
	must(t, err)
	read := func(more int) audit.Checkpoint {
		for range more {
			p.Token(nil)
		}
		var cp audit.Checkpoint
		p.Await("the entries in the log", func([]*api.PlacementStatus) bool {
			list, err := p.ListAuditEntries(t.Context(), fleettest.Operator, &api.ListAuditEntriesRequest{Newest: true, Limit: 1})
			must(t, err)
			cp, err = audit.OpenCheckpoint(fetch(t, base+"checkpoint"), p.Origin(), verifier)
			must(t, err)
			return !list.Entries[0].Pending && cp.Size == list.Entries[0].Index+1
		})
		return cp
	}
	old, now := read(10), read(600)
	client := tileClient{t, base}
	hashes := tlog.TileHashReader(tlog.Tree{N: int64(now.Size), Hash: now.Root}, client)
	proof, err := tlog.ProveTree(int64(now.Size), int64(old.Size), hashes)
	must(t, err)
	must(t, tlog.CheckTree(proof, int64(now.Size), now.Root, int64(old.Size), old.Root))
	for _, index := range []int64{0, 255, 256, int64(now.Size) - 1} {
		bundle := audit.Tile{Entries: true, Index: uint64(index) / 256, Width: int(min(256, int64(now.Size)-index/256*256))}
		entries, err := audit.ParseEntries(fetch(t, base+bundle.Path()))
		must(t, err)
		record, err := tlog.ProveRecord(int64(now.Size), index, hashes)
		must(t, err)
		must(t, tlog.CheckRecord(record, int64(now.Size), now.Root, index, tlog.RecordHash(entries[index%256])))
	}
	// The reader checks each tile against the root: one that was signed for
	// another log does not fit.
	forged := tlog.TileHashReader(tlog.Tree{N: int64(now.Size), Hash: old.Root}, client)
	if _, err := tlog.ProveRecord(int64(now.Size), 0, forged); err == nil {
		t.Error("the tiles fit another root")
	}
}

// Caches keep tiles and never a checkpoint.
func TestLogsHeaders(t *testing.T) {
	p := fleettest.NewPlane(t)
	for range 300 {
		p.Token(nil)
	}
	p.Await("all entries in the log", func([]*api.PlacementStatus) bool {
		code, _ := get(t, "http://"+p.Config.Listen.Public+"/log/tile/0/000")
		return code == http.StatusOK
	})
	base := "http://" + p.Config.Listen.Public + "/log/"
	for path, want := range map[string][2]string{
		"checkpoint":          {"text/plain; charset=utf-8", "no-cache"},
		"tile/0/000":          {"application/octet-stream", "public, max-age=31536000, immutable"},
		"tile/0/000.p/7":      {"application/octet-stream", "public, max-age=31536000, immutable"},
		"tile/1/000.p/1":      {"application/octet-stream", "public, max-age=31536000, immutable"},
		"tile/entries/000":    {"application/octet-stream", "public, max-age=31536000, immutable"},
		"tile/0/001":          {"", ""},
		"tile/0/000.p/256":    {"", ""},
		"tile/1/000":          {"", ""},
		"tile/2/000.p/1":      {"", ""},
		"tile/entries/00":     {"", ""},
		"tile/0/x000/000":     {"", ""},
		"tile/0/000.p/0":      {"", ""},
		"tile/0/000.p/07":     {"", ""},
		"tile/entries/000.p/": {"", ""},
	} {
		response, err := http.Get(base + path)
		must(t, err)
		body, err := io.ReadAll(response.Body)
		must(t, err)
		response.Body.Close()
		header := response.Header
		if want[0] == "" {
			if response.StatusCode != http.StatusNotFound || header.Get("Cache-Control") != "" {
				t.Errorf("%s: %s, cached %q", path, response.Status, header.Get("Cache-Control"))
			}
			continue
		}
		if response.StatusCode != http.StatusOK || header.Get("Content-Type") != want[0] || header.Get("Cache-Control") != want[1] || len(body) == 0 {
			t.Errorf("%s: %s, %q, %q, %d bytes", path, response.Status, header.Get("Content-Type"), header.Get("Cache-Control"), len(body))
		}
		if strings.HasPrefix(path, "tile/") {
			again, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
			must(t, err)
			again.Header.Set("If-None-Match", header.Get("ETag"))
			response, err := http.DefaultClient.Do(again)
			must(t, err)
			response.Body.Close()
			if response.StatusCode != http.StatusNotModified {
				t.Errorf("%s, which is known: %s", path, response.Status)
			}
		}
	}
}
