package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/uuid"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/measure"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// auditLog measures the audit log as it grows: sequencing what is pending,
// verifying all of it, in CPU time beside what hashing alone costs here and now,
// and a proof.
func (b *bench) auditLog(ctx context.Context) (results []Result, err error) {
	for _, entries := range []int{10_000, 100_000, 1_000_000} {
		if ctx.Err() != nil {
			return results, ctx.Err()
		}
		measured, err := measureLog(ctx, filepath.Join(b.dir, fmt.Sprint("log-", entries)), entries)
		results = append(results, measured...)
		if err != nil {
			return results, err
		}
	}
	proof, err := proveTenMillion(ctx, filepath.Join(b.dir, "log-proof"))
	return append(results, proof), err
}

func measureLog(ctx context.Context, dir string, entries int) ([]Result, error) {
	db, c, err := foundLog(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it lies in the bench's directory
	defer db.Close()
	entered, floorEnter, err := enterEntries(ctx, db, entries)
	if err != nil {
		return nil, err
	}
	before := measure.OwnCPU()
	for {
		n, err := c.SequenceAudit(ctx)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
	}
	sequenced := measure.OwnCPU() - before
	path := filepath.Join(dir, "export")
	if err := exportLog(ctx, c, path); err != nil {
		return nil, err
	}
	verified, floor, err := verifyExported(c, path)
	if err != nil {
		return nil, err
	}
	targets := map[int][2]string{1_000_000: {"≤ 20000", "≤ 10000"}}[entries]
	return []Result{
		{Name: fmt.Sprintf("log: enter %d, CPU each", entries), Value: entered, Unit: "µs", Floor: floorEnter, Target: "≤ 10"},
		{Name: fmt.Sprintf("log: sequence %d, CPU", entries), Value: ms(sequenced), Unit: "ms", Floor: ms(floor), Target: orDash(targets[0])},
		{Name: fmt.Sprintf("log: verify an export of %d, CPU", entries), Value: ms(verified), Unit: "ms", Floor: ms(floor), Target: orDash(targets[1])},
	}, nil
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// foundLog founds a trust domain in a store of its own.
func foundLog(ctx context.Context, dir string) (*store.DB, *control.Control, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	kekFile := filepath.Join(dir, "kek")
	if err := keys.NewKEKFile(kekFile); err != nil {
		return nil, nil, err
	}
	kek, err := keys.OpenKEK(keys.Source{File: kekFile})
	if err != nil {
		return nil, nil, err
	}
	td := spiffeid.RequireTrustDomainFromString("bench.example")
	root, key, err := ca.CreateRoot(time.Now(), ca.RootOrder{TrustDomain: td, Name: "root", Algorithm: pki.ECDSAP256, Lifetime: 3650 * 24 * time.Hour})
	if err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "rotunda.db"), Create: true})
	if err != nil {
		return nil, nil, err
	}
	err = control.Found(ctx, db, control.Founding{
		TrustDomain: td, Root: root, RootKey: key, Algorithm: pki.ECDSAP256, IssuingLifetime: 1000 * 24 * time.Hour,
		PermittedDNS: []string{"bench.example"}, PermittedIPs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		PublicURL: "http://localhost", KEK: kek, Caller: control.Caller{Kind: control.Socket},
	})
	if err != nil {
		return nil, nil, err
	}
	c, err := control.Open(ctx, control.Options{DB: db, KEK: kek, PublicURL: "http://localhost", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	return db, c, err
}

// issuanceEntry is what the issuance of a certificate enters.
func issuanceEntry(i int) audit.Entry {
	return audit.Entry{
		ID: uuid.Must(uuid.NewV7()).String(), Time: time.Now(), Actor: audit.Actor{Kind: "agent", ID: "0199c2f4-6a51-7c1e-8000-000000000001", Serial: "019a3f2c7b5e1d4c6f8a9b0c1d2e3f40", Address: "10.1.2.3:45678"},
		Verb: "issue", Object: "Placement/0199c2f4-6a51-7c1e-8000-000000000002", Outcome: audit.Done,
		Detail: map[string]any{"serial": fmt.Sprintf("019a3f2c7b5e%020d", i), "generation": i, "intent": "orders-db", "names": []string{"db.orders.bench.example"}, "rule": "databases/allow"},
	}
}

// enterEntries enters entries as issuance does under load: those of a group of
// calls by one statement after the other, in the group's commit. It returns the
// CPU time of one in µs, all that the log costs the issuing path: the encoding,
// the hash and the row; and of that the first two.
func enterEntries(ctx context.Context, db *store.DB, entries int) (each, floor float64, err error) {
	const group = 256
	before := measure.OwnCPU()
	for from := 0; from < entries; from += group {
		err := db.Write(ctx, func(tx *store.Tx) error {
			records := make([]store.PendingEntry, 0, group)
			for i := from; i < min(from+group, entries); i++ {
				entry := issuanceEntry(i)
				content, err := entry.Encode()
				if err != nil {
					return err
				}
				records = append(records, store.PendingEntry{ID: entry.ID, Content: content, LeafHash: audit.LeafHash(content)})
			}
			return tx.AppendAuditEntries(ctx, records...)
		})
		if err != nil {
			return 0, 0, err
		}
	}
	each = float64((measure.OwnCPU() - before).Microseconds()) / float64(entries)
	before = measure.OwnCPU()
	for i := range entries {
		content, err := issuanceEntry(i).Encode()
		if err != nil {
			return 0, 0, err
		}
		runtime.KeepAlive(audit.LeafHash(content)) // so that no compiler leaves the hashing out
	}
	return each, float64((measure.OwnCPU() - before).Microseconds()) / float64(entries), nil
}

// exportLog writes the log as rotunda audit export does.
func exportLog(ctx context.Context, c *control.Control, path string) error {
	caller, tree := control.Caller{Kind: control.Socket}, audit.NewTree()
	each := func(take func(*api.AuditEntry) error) error {
		for from := uint64(0); ; {
			page, err := c.ListAuditEntries(ctx, caller, &api.ListAuditEntriesRequest{From: from})
			if err != nil || len(page.Entries) == 0 {
				return err
			}
			for _, entry := range page.Entries {
				if err := take(entry); err != nil {
					return err
				}
			}
			from += uint64(len(page.Entries))
		}
	}
	var leaves []audit.Hash
	if err := each(func(e *api.AuditEntry) error { leaves = append(leaves, audit.LeafHash(e.Content)); return nil }); err != nil {
		return err
	}
	if err := tree.Append(leaves...); err != nil {
		return err
	}
	signed, err := c.Checkpoint(ctx)
	if err != nil {
		return err
	}
	return writeExported(path, signed, tree, each)
}

// verifyExported verifies an export, and returns what hashing the like alone
// takes: each entry, and a node for each.
func verifyExported(c *control.Control, path string) (took, floor time.Duration, err error) {
	verifier, err := note.NewVerifier(c.LogKey())
	if err != nil {
		return 0, 0, err
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	before := measure.OwnCPU()
	export, err := audit.VerifyExport(file, verifier, nil, func(uint64, uint64) {})
	if err != nil {
		return 0, 0, err
	}
	took = measure.OwnCPU() - before
	content, node := make([]byte, len(export.Last)+1), make([]byte, 2*audit.HashSize+1)
	before = measure.OwnCPU()
	for range export.Checkpoint.Size {
		hash := sha256.Sum256(content)
		copy(node, hash[:])
		hash = sha256.Sum256(node)
		runtime.KeepAlive(hash)
	}
	return took, measure.OwnCPU() - before, nil
}

// proveTenMillion is the median time of an inclusion and of a consistency proof
// in a log of ten million, from the store's file. Its entries are made up of
// their hashes alone.
func proveTenMillion(ctx context.Context, dir string) (Result, error) {
	const size, proofs = 10_000_000, 301
	result := Result{Name: "log: a proof at 10000000", Unit: "µs", Target: "≤ 1000"}
	db, _, err := foundLog(ctx, dir)
	if err != nil {
		return result, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it lies in the bench's directory
	if err := db.Close(); err != nil {
		return result, err
	}
	path := filepath.Join(dir, "rotunda.db")
	if err := fillTiles(path, size); err != nil {
		return result, err
	}
	if db, err = store.Open(ctx, store.Options{Path: path}); err != nil {
		return result, err
	}
	defer db.Close()
	var times, floors []float64
	for i := range uint64(proofs) {
		at := i * (size / proofs)
		start := time.Now()
		err := db.Read(ctx, func(tx *store.Tx) error {
			if i%2 == 0 {
				_, err := audit.ProveInclusion(at, size, tx.AuditTiles(ctx))
				return err
			}
			_, err := audit.ProveConsistency(at, size, tx.AuditTiles(ctx))
			return err
		})
		if err != nil {
			return result, err
		}
		times = append(times, float64(time.Since(start).Nanoseconds())/1000)
		start = time.Now()
		if err := db.Read(ctx, func(tx *store.Tx) error { _, err := tx.AuditTiles(ctx)(0, at/audit.TileWidth); return err }); err != nil {
			return result, err
		}
		floors = append(floors, float64(time.Since(start).Nanoseconds())/1000)
	}
	result.Value, result.Floor = measure.Median(times), measure.Median(floors)
	return result, nil
}

// fillTiles puts the tiles of a log of size made-up entries into a store.
func fillTiles(path string, size int) error {
	leaves := make([]audit.Hash, size)
	for i := range leaves {
		leaves[i] = sha256.Sum256(fmt.Append(nil, i))
	}
	tiles, _, err := audit.Append(0, leaves, func(int, uint64) ([]byte, error) { return nil, os.ErrNotExist })
	if err != nil {
		return err
	}
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer raw.Close()
	tx, err := raw.Begin()
	if err != nil {
		return err
	}
	for _, tile := range tiles {
		if _, err := tx.Exec(`INSERT INTO audit_tile VALUES ($1, $2, $3)`, tile.Level, tile.Index, tile.Hashes); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`UPDATE store_meta SET tree_size = $1`, size); err != nil {
		return err
	}
	return tx.Commit()
}
