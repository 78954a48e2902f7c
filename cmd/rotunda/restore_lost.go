package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// readLost reads entries of the audit log from a file, for what the store has
// lost of them.
func readLost(request *api.RestoreRequest, export string) error {
	file, err := os.Open(export)
	if err != nil {
		return fault.Wrap(fault.NotFound, err, "export of the audit log")
	}
	defer file.Close() //nolint:errcheck // it was only read
	in, closing, err := plainExport(file)
	if err != nil {
		return err
	}
	defer closing()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 4*audit.MaxEntry)
	for n := 1; lines.Scan(); n++ {
		if err := takeLine(request, lines.Bytes()); err != nil {
			return fault.Wrap(fault.Invalid, err, "%s, line %d", export, n)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", export, err)
	}
	return nil
}

// leaveOut leaves out of the entries those that the store has: an export begins
// with the log, and all of a long one is too much to send.
func leaveOut(ctx context.Context, s *server, request *api.RestoreRequest) error {
	for len(request.Entries) > 0 {
		page, err := invoke(ctx, s.ListAuditEntries, &api.ListAuditEntriesRequest{From: request.FirstIndex, Limit: pageOfEntries})
		if err != nil || len(page.Entries) == 0 {
			return err
		}
		for _, entry := range page.Entries {
			if len(request.Entries) == 0 || entry.Pending || entry.Index != request.FirstIndex || !bytes.Equal(entry.Content, request.Entries[0]) {
				return nil
			}
			request.FirstIndex, request.Entries = request.FirstIndex+1, request.Entries[1:]
		}
	}
	return nil
}

// exportLine is an entry in its wrapping: its place in the log, and its exact
// bytes, which are JSON themselves. Lines before the first entry of an export
// have a checkpoint instead.
type exportLine struct {
	Checkpoint string          `json:"checkpoint"`
	Index      json.Number     `json:"index"`
	Pending    bool            `json:"pending"`
	Content    json.RawMessage `json:"content"`
}

func takeLine(request *api.RestoreRequest, line []byte) error {
	var one exportLine
	if err := json.Unmarshal(line, &one); err != nil {
		return err
	}
	if one.Pending || one.Checkpoint != "" && one.Content == nil {
		return nil // it has no place in the log yet, or is none
	}
	if one.Content == nil {
		return fault.New(fault.Invalid, "it has no content").WithRemedy("each line is like rotunda audit export or audit tail -o json writes it")
	}
	if _, err := audit.Decode(one.Content); err != nil {
		return err
	}
	index, err := one.Index.Int64()
	if one.Index == "" {
		index, err = 0, nil // a zero is left out
	}
	want := int64(request.FirstIndex) + int64(len(request.Entries))
	switch {
	case err != nil || index < 0:
		return fault.New(fault.Invalid, "index %q is no number", one.Index)
	case len(request.Entries) == 0:
		request.FirstIndex = uint64(index)
	case index != want:
		return fault.New(fault.Invalid, "it has index %d, the one before it %d: entries are missing, or out of order", index, want-1)
	}
	request.Entries = append(request.Entries, []byte(one.Content))
	return nil
}
