package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fleetload"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/store"
)

// mostHosts is how many hosts a filled store has at most: of more certificates
// than that each host has had several.
const mostHosts = 1_000_000

// filledAtOnce is how many certificates are filled in by one transaction.
const filledAtOnce = 8192

// growth measures issuing, the memory at rest and the start of a server whose store
// holds ever more certificates, each with its entry in the log, and what they take
// on the disk. The store is filled with certificates that differ from one that was
// issued as those of other hosts do.
func (b *bench) growth(ctx context.Context, sizes []int) (results []Result, err error) {
	if err := b.declare(ctx); err != nil {
		return nil, err
	}
	if _, err := b.issued(ctx, 500); err != nil { // of which one is copied
		return nil, err
	}
	stored := 0
	for _, size := range sizes {
		grown, err := b.fill(ctx, stored, size)
		if err != nil {
			return results, fmt.Errorf("fill the store with %d: %w", size, err)
		}
		measured, err := b.issued(ctx, 1500)
		if err != nil {
			return results, fmt.Errorf("%d stored: %w", size, err)
		}
		measured = append(measured, Result{Name: "disk for each, its entry too", Value: grown / float64(size-stored), Unit: "B", Target: "≤ 1500"})
		for _, result := range measured {
			result.Name = fmt.Sprintf("%d certificates stored: %s", size, result.Name)
			results = append(results, result)
		}
		stored = size
	}
	return results, nil
}

// declare has the intent that the copies are of.
func (b *bench) declare(ctx context.Context) error {
	server, err := b.server(ctx)
	if err != nil {
		return err
	}
	defer server.stop()
	path := filepath.Join(b.dir, "growth.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(documents, "DIRECTORY", b.delivery())), 0o600); err != nil {
		return err
	}
	return b.rotunda(ctx, "apply", "--state", b.state(), "-f", path)
}

// issued starts a server, lets it rest, and has it issue.
func (b *bench) issued(ctx context.Context, count int) (results []Result, err error) {
	began := time.Now()
	server, err := b.server(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	ready := float64(time.Since(began).Microseconds()) / 1000
	load, err := b.load(ctx, server)
	if err != nil {
		return nil, err
	}
	measured, err := load.Issue(ctx, fleetload.Issuing{
		Agents: 16, Certificates: count, Rounds: 3, Calls: []fleetload.Calls{{InFlight: 16, Batch: 1}, {InFlight: 2, Batch: 50}},
	})
	if err != nil {
		return nil, err
	}
	for _, result := range measured {
		if strings.HasSuffix(result.Name, "server CPU each") {
			result.Target = "" // those aims are of the issuance part
			results = append(results, result)
		}
	}
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	memory, err := server.number().RSSAnon()
	return append(results,
		Result{Name: "server: start to ready", Value: ready, Unit: "ms", Target: "≤ 150"},
		Result{Name: "server: RssAnon", Value: memory / (1 << 20), Unit: "MiB", Target: "≤ 200"}), err
}

// fill adds certificates to the store until it has had so many, and returns how
// many bytes they have taken. Their hosts are there before.
func (b *bench) fill(ctx context.Context, from, to int) (grown float64, err error) {
	path := filepath.Join(b.state(), "rotunda.db")
	db, c, err := b.openStore(ctx, path)
	if err != nil {
		return 0, err
	}
	f, err := newFiller(ctx, db)
	if err != nil {
		return 0, err
	}
	for len(f.hosts) < min(to, mostHosts) {
		if err := f.write(ctx, db, func(tx *store.Tx) error { return f.addHosts(ctx, tx) }); err != nil {
			return 0, err
		}
	}
	before, err := sizeOf(path)
	if err != nil {
		return 0, err
	}
	for ; from < to; from += filledAtOnce {
		add := func(tx *store.Tx) error { return f.add(ctx, tx, from, min(from+filledAtOnce, to)) }
		if err := f.write(ctx, db, add); err != nil {
			return 0, err
		}
		for n := 1; n > 0; { // as it goes: what is pending takes room of its own
			if n, err = c.SequenceAudit(ctx); err != nil {
				return 0, err
			}
		}
	}
	after, err := sizeOf(path)
	return after - before, errors.Join(err, db.Close())
}

// openStore opens the store of a server that does not run, and what works on it.
func (b *bench) openStore(ctx context.Context, path string) (*store.DB, *control.Control, error) {
	kek, err := keys.OpenKEK(keys.Source{File: filepath.Join(b.state(), "kek")})
	if err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, store.Options{Path: path})
	if err != nil {
		return nil, nil, err
	}
	c, err := control.Open(ctx, control.Options{DB: db, KEK: kek, PublicURL: "http://localhost", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	return db, c, err
}

// sizeOf is how large a store is, with what its write-ahead log has.
func sizeOf(path string) (size float64, err error) {
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		return 0, err
	}
	defer raw.Close()
	row := raw.QueryRow(`SELECT c.page_count * s.page_size FROM pragma_page_count c, pragma_page_size s`)
	err = row.Scan(&size)
	return size, err
}
