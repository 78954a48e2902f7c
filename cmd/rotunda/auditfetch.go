package main

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const pageOfEntries = 1000

// fetchedLog is a log as a server shows it, and the tree computed from it.
type fetchedLog struct {
	server   *server
	ui       *ui
	verifier note.Verifier

	tree        *audit.Tree // over the leaf hashes that the server has in its tree
	signed      []byte      // the newest checkpoint
	checkpoint  audit.Checkpoint
	notes       [][]byte // all that the server keeps, with their cosignatures
	sizes       []uint64 // of those
	checkpoints int      // that the log was held to
	strange     *uint64  // the first entry whose content is not what its leaf hash says
	last        []byte
	done        atomic.Uint64
}

// fetch reads all entries that the newest checkpoint covers, and holds them to
// it, to those that the server keeps and to those seen. The log may grow
// meanwhile.
func (l *fetchedLog) fetch(ctx context.Context, seen []audit.Checkpoint) error {
	kept, err := l.fetchCheckpoints(ctx)
	if err != nil {
		return err
	}
	newest, err := invoke(ctx, l.server.ListAuditEntries, &api.ListAuditEntriesRequest{Newest: true, Limit: 1})
	if err != nil {
		return err
	}
	l.signed = newest.Checkpoint
	if l.checkpoint, err = openNewest(l.signed, l.verifier); err != nil {
		return err
	}
	all := append(append(kept, l.checkpoint), seen...)
	l.checkpoints = len(all)
	defer l.ui.progressOf(func() string { return entriesBar("verifying", l.done.Load(), l.checkpoint.Size) })()
	l.tree = audit.NewTree()
	follower := audit.NewFollower(all)
	err = l.pages(ctx, func(page []*api.AuditEntry) error { return l.take(page, follower) })
	if err == nil {
		err = follower.End()
	}
	return l.blame(err)
}

func openNewest(signed []byte, verifier note.Verifier) (audit.Checkpoint, error) {
	if len(signed) == 0 {
		return audit.Checkpoint{}, fault.New(fault.Unavailable, "the server has signed no checkpoint yet").WithRemedy("try again in a moment")
	}
	checkpoint, err := audit.OpenCheckpoint(signed, verifier.Name(), verifier)
	if err != nil {
		return checkpoint, fault.Wrap(fault.Conflict, err, "the checkpoint is not signed by the pinned log key").
			WithRemedy("keep the server's store as it is, and compare with what agents have witnessed")
	}
	return checkpoint, nil
}

// fetchCheckpoints reads all checkpoints that the server keeps.
func (l *fetchedLog) fetchCheckpoints(ctx context.Context) ([]audit.Checkpoint, error) {
	var all []audit.Checkpoint
	from := uint64(0)
	for {
		page, err := invoke(ctx, l.server.ListCheckpoints, &api.ListCheckpointsRequest{From: from})
		if err != nil || len(page.Checkpoints) == 0 {
			return all, err
		}
		for _, signed := range page.Checkpoints {
			checkpoint, err := openNewest(signed, l.verifier)
			if err != nil {
				return nil, err
			}
			if checkpoint.Size < from {
				return nil, fault.New(fault.Internal, "the server does not list its checkpoints in order")
			}
			all, from = append(all, checkpoint), checkpoint.Size+1
			l.notes, l.sizes = append(l.notes, signed), append(l.sizes, checkpoint.Size)
		}
	}
}

// pages hands all entries that the checkpoint covers to take, page by page, and
// fetches the next page meanwhile.
func (l *fetchedLog) pages(ctx context.Context, take func([]*api.AuditEntry) error) error {
	ctx, cancel := context.WithCancel(ctx)
	fetched, failed := make(chan []*api.AuditEntry, 2), make(chan error, 1)
	go func() {
		defer close(fetched)
		for from := uint64(0); from < l.checkpoint.Size; {
			page, err := invoke(ctx, l.server.ListAuditEntries, &api.ListAuditEntriesRequest{From: from, Limit: pageOfEntries})
			if err != nil || len(page.Entries) == 0 {
				failed <- err
				return
			}
			entries := page.Entries[:min(uint64(len(page.Entries)), l.checkpoint.Size-from)]
			from += uint64(len(entries))
			select {
			case fetched <- entries:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		for range fetched { //nolint:revive // the fetch under way ends
		}
	}()
	for entries := range fetched {
		if err := take(entries); err != nil {
			return err
		}
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// take checks entries and grows the tree by the leaf hashes that the server has
// in its own: where it comes out right, they tell which content is not.
func (l *fetchedLog) take(entries []*api.AuditEntry, follower *audit.Follower) error {
	leaves := make([]audit.Hash, 0, len(entries))
	for _, entry := range entries {
		at := l.tree.Size() + uint64(len(leaves))
		if entry.Pending || entry.Index != at {
			return &audit.BadEntry{Index: at, End: at + 1, Reason: "it is missing: the server sent entry " + number(entry.Index) + " in its place"}
		}
		leaf := audit.LeafHash(entry.Content)
		if !bytes.Equal(leaf[:], entry.LeafHash) && l.strange == nil {
			l.strange = &at
		}
		if len(entry.LeafHash) == audit.HashSize {
			leaf = audit.Hash(entry.LeafHash)
		}
		if err := follower.Add(leaf); err != nil {
			return err
		}
		leaves = append(leaves, leaf)
		l.last = entry.Content
	}
	defer l.done.Add(uint64(len(leaves)))
	return l.tree.Append(leaves...)
}

// blame makes of what was found the first bad entry. Where the tree went wrong,
// or nowhere, an entry whose content is not what was hashed is the one.
func (l *fetchedLog) blame(err error) error {
	bad, isBad := errors.AsType[*audit.BadEntry](err)
	if err != nil && !isBad || l.strange == nil {
		return err
	}
	if at := *l.strange; !isBad || at < bad.End {
		return &audit.BadEntry{Index: at, End: at + 1, Reason: "its content does not have the hash that stands in the tree"}
	}
	return err
}

func (l *fetchedLog) prove(from, to uint64) ([]audit.Hash, error) {
	return audit.ProveConsistency(from, to, audit.TileReader(l.tree.ReadTile))
}

func (l *fetchedLog) verdict(earlier uint64) verdict {
	v := newVerdict(l.checkpoint, l.checkpoints, l.last)
	v.Earlier = earlier
	return v
}
