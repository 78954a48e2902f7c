package store_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// BenchmarkWrite is what issuance asks of the store: a certificate and an
// audit entry, durable, by so many writers at once. cpu-µs is the process's
// CPU time for one of them, and rows/s counts both.
func BenchmarkWrite(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) { benchmarkWrite(b, writers) })
	}
}

func benchmarkWrite(b *testing.B, writers int) {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{Path: filepath.Join(b.TempDir(), "rotunda.db"), Create: true})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	err = db.Write(ctx, func(tx *store.Tx) error {
		return tx.InsertAuthority(ctx, store.Authority{
			ID: "issuing", Name: "issuing", Kind: store.IssuingAuthority, State: "active", Origin: store.KeyHere, Certificate: []byte("DER"),
		})
	})
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	var group sync.WaitGroup
	before := cpuTime(b)
	b.ResetTimer()
	for range writers {
		group.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := writeIssuance(ctx, db, uint64(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func writeIssuance(ctx context.Context, db *store.DB, n uint64) error {
	now := time.Now()
	serial, err := pki.NewSerial(now, rand.Reader)
	if err != nil {
		return err
	}
	c := store.Certificate{
		Serial: serial, Kind: store.KindLeaf, AuthorityID: "issuing", PlacementID: fmt.Sprintf("placement-%032d", n%5000),
		Generation: n/5000 + 1, AgentID: fmt.Sprintf("agent-%032d", n%500), Intent: "orders-db", Names: "db.example.org",
		PolicyInput: make([]byte, 400), Rule: "databases/allow", CRLShard: int(serial.Shard()),
		NotBefore: now, NotAfter: now.Add(24 * time.Hour), IssuedAt: now, DER: make([]byte, 700),
	}
	for i := range c.PolicyInput {
		c.PolicyInput[i] = 'x'
	}
	binary.BigEndian.PutUint64(c.Fingerprint[:], n)
	content := make([]byte, 400)
	binary.BigEndian.PutUint64(content, n)
	return db.Write(ctx, func(tx *store.Tx) error {
		if err := tx.InsertCertificates(ctx, c); err != nil {
			return err
		}
		return tx.AppendAuditEntries(ctx, store.PendingEntry{ID: serial.String(), Content: content, LeafHash: audit.LeafHash(content)})
	})
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
