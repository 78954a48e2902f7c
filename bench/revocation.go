package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/measure"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// revocation measures the lists of an authority that revoked very many
// certificates: one shard after one more revocation, all shards when they are a
// day old, signed by the server itself and for who asks, the whole list, and what
// an entry takes in the store. Everything
// runs in this process, on a real store.
func (b *bench) revocation(ctx context.Context) (results []Result, err error) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		measured, err := b.lists(ctx, n)
		results = append(results, measured...)
		if err != nil {
			return results, fmt.Errorf("%d revoked: %w", n, err)
		}
	}
	return results, nil
}

// listBench is a control plane in this process whose clock can be turned.
type listBench struct {
	*control.Control
	db      *store.DB
	path    string
	issuer  *ca.Authority
	ahead   atomic.Int64 // of the clock, ns
	revoked int
}

func (l *listBench) now() time.Time { return time.Now().Add(time.Duration(l.ahead.Load())) }

func (b *bench) lists(ctx context.Context, n int) ([]Result, error) {
	l, err := newListBench(ctx, filepath.Join(b.dir, fmt.Sprint("lists-", n)))
	if err != nil {
		return nil, err
	}
	defer l.db.Close()
	before, err := l.size()
	if err != nil {
		return nil, err
	}
	if err := l.fill(ctx, n); err != nil {
		return nil, err
	}
	after, err := l.size()
	if err != nil {
		return nil, err
	}
	aims := map[bool][3]string{true: {"≤ 5", "≤ 200", "≤ 100"}, false: {"-", "-", "-"}}[n == 1_000_000]
	name := fmt.Sprintf("%d revoked: ", n)
	one, floor, err := l.oneShard(ctx)
	if err != nil {
		return nil, err
	}
	cold, err := l.published(ctx)
	if err != nil {
		return nil, err
	}
	asked, err := l.asked(ctx)
	if err != nil {
		return nil, err
	}
	return []Result{
		{Name: name + "one shard signed anew", Value: one, Unit: "CPU-ms", Floor: floor, Target: aims[0]},
		{Name: name + "all shards from cold", Value: cold.cpu, Unit: "CPU-ms", Floor: floor * ca.Shards, Target: aims[1]},
		{Name: name + "all shards from cold, by the clock", Value: cold.wall, Unit: "ms", Target: aims[1]},
		{Name: name + "all shards asked for one by one", Value: asked.cpu, Unit: "CPU-ms", Floor: floor * ca.Shards, Target: "-"},
		{Name: name + "all shards asked for one by one, by the clock", Value: asked.wall, Unit: "ms", Target: "-"},
		{Name: name + "the whole list", Value: asked.whole, Unit: "CPU-ms", Target: "-"},
		{Name: name + "in the store", Value: float64(after-before) / float64(n), Unit: "B each", Target: aims[2]},
	}, nil
}

func newListBench(ctx context.Context, dir string) (*listBench, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l := &listBench{path: filepath.Join(dir, "rotunda.db")}
	if err := keys.NewKEKFile(filepath.Join(dir, "kek")); err != nil {
		return nil, err
	}
	kek, err := keys.OpenKEK(keys.Source{File: filepath.Join(dir, "kek")})
	if err != nil {
		return nil, err
	}
	root, rootKey, err := ca.CreateRoot(l.now(), ca.RootOrder{TrustDomain: benchDomain, Name: "root", Algorithm: pki.ECDSAP256, Lifetime: 10 * 365 * 24 * time.Hour})
	if err != nil {
		return nil, err
	}
	if l.db, err = store.Open(ctx, store.Options{Path: l.path, Now: l.now, Create: true}); err != nil {
		return nil, err
	}
	err = control.Found(ctx, l.db, control.Founding{
		TrustDomain: benchDomain, Root: root, RootKey: rootKey, Algorithm: pki.ECDSAP256, IssuingLifetime: 3 * 365 * 24 * time.Hour,
		PublicURL: "http://localhost", KEK: kek, Caller: control.Caller{Kind: control.Socket},
	})
	if err != nil {
		return nil, err
	}
	l.Control, err = control.Open(ctx, control.Options{DB: l.db, KEK: kek, PublicURL: "http://localhost", Now: l.now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if _, err := l.PublishCRLs(ctx); err != nil {
		return nil, err
	}
	l.issuer, err = l.Issuer(ctx)
	return l, err
}

// fill makes lists of n entries in all, as if each had been revoked one day.
func (l *listBench) fill(ctx context.Context, n int) error {
	for shard := range ca.Shards {
		entries := ca.NewEntries(shard)
		for range n / ca.Shards {
			serial, err := pki.NewSerial(l.now(), rand.Reader)
			if err != nil {
				return err
			}
			serial[15] = byte(shard)
			err = entries.Add(ca.Revocation{Serial: serial, At: l.now(), Reason: "keyCompromise", Ends: l.now().Add(90 * 24 * time.Hour)})
			if err != nil {
				return err
			}
		}
		err := l.db.Write(ctx, func(tx *store.Tx) error {
			old, err := tx.CRLHead(ctx, l.issuer.ID, shard)
			if err != nil {
				return err
			}
			terms := ca.CRLTerms{Number: old.Number + 1, This: old.ThisUpdate, Next: old.NextUpdate}
			signed, err := l.issuer.SignCRL(shard, terms, entries)
			if err != nil {
				return err
			}
			return tx.PutCRL(ctx, store.CRL{
				CRLHead: store.CRLHead{
					AuthorityID: l.issuer.ID, Shard: shard, Number: terms.Number, Digest: signed.Fingerprint(),
					ThisUpdate: terms.This, NextUpdate: terms.Next, Count: entries.Len(),
				},
				Head: signed.Head, Tail: signed.Tail,
			}, old.Number, store.EntryChange{All: true, Part: store.EntryPart{Ends: entries.Ends(), Entries: entries.DER()}})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// size is that of the store, with what is in its write-ahead log.
func (l *listBench) size() (total int64, err error) {
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(l.path + suffix)
		if err != nil && !os.IsNotExist(err) {
			return 0, err
		}
		if err == nil && suffix == "" {
			total += info.Size()
		}
	}
	return total, nil
}

// oneShard revokes a certificate and has its shard's list signed anew; the floor
// is to hash and sign what the list has, read and written nowhere.
func (l *listBench) oneShard(ctx context.Context) (ms, floor float64, err error) {
	var took, floors []float64
	for range rounds {
		serial, err := l.revokeOne(ctx)
		if err != nil {
			return 0, 0, err
		}
		var list store.CRL
		spent, err := spentHere(func() error {
			list, err = l.CRL(ctx, l.issuer.ID, int(serial.Shard()))
			return err
		})
		if err != nil {
			return 0, 0, err
		}
		took = append(took, spent)
		entries, err := ca.ReadEntries(list.Shard, list.Entries, list.Ends)
		if err != nil {
			return 0, 0, err
		}
		spent, err = spentHere(func() error {
			_, err := l.issuer.SignCRL(list.Shard, ca.CRLTerms{Number: list.Number + 1, This: list.ThisUpdate, Next: list.NextUpdate}, entries)
			return err
		})
		if err != nil {
			return 0, 0, err
		}
		floors = append(floors, spent)
	}
	return measure.Median(took), measure.Median(floors), nil
}

func (l *listBench) revokeOne(ctx context.Context) (pki.Serial, error) {
	caller := control.Caller{Kind: control.Socket}
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		return pki.Serial{}, err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return pki.Serial{}, err
	}
	l.revoked++
	issued, err := l.IssueOperator(ctx, caller, &api.IssueOperatorRequest{Name: fmt.Sprint("bench-", l.revoked), Csr: csr})
	if err != nil {
		return pki.Serial{}, err
	}
	chain, err := pki.ParseChainDER(issued.Chain)
	if err != nil {
		return pki.Serial{}, err
	}
	serial, err := pki.SerialOf(chain.Leaf)
	if err != nil {
		return serial, err
	}
	_, err = l.Revoke(ctx, caller, &api.RevokeRequest{Serial: serial.String(), Now: true})
	return serial, err
}

// costs are what all lists took that were signed anew after a day, in ms.
type costs struct{ cpu, wall, whole float64 }

// published has the lists signed as a server does by itself, shards first: until
// the last shard is there.
func (l *listBench) published(ctx context.Context) (costs, error) {
	return l.daily(func(day time.Time) (costs, error) {
		began := time.Now()
		var wall time.Duration
		var group errgroup.Group
		cpu, err := spentHere(func() error {
			group.Go(func() error { _, err := l.PublishCRLs(ctx); return err })
			err := l.awaitShards(ctx, day)
			wall = time.Since(began)
			return err
		})
		return costs{cpu: cpu, wall: ms(wall)}, errors.Join(err, group.Wait())
	})
}

// asked has all shards asked for, two at a time, each of which is signed for who
// asks; and then the whole list.
func (l *listBench) asked(ctx context.Context) (costs, error) {
	return l.daily(func(time.Time) (c costs, err error) {
		began := time.Now()
		if c.cpu, err = spentHere(func() error { return l.askAll(ctx) }); err != nil {
			return c, err
		}
		c.wall = ms(time.Since(began))
		c.whole, err = spentHere(func() error { _, err := l.PublishCRLs(ctx); return err })
		return c, err
	})
}

// daily measures something on three days, and takes the median of each cost.
func (l *listBench) daily(measured func(day time.Time) (costs, error)) (costs, error) {
	var cpus, walls, wholes []float64
	for range 3 {
		l.ahead.Add(int64(fleet.CRLPeriod + time.Minute))
		one, err := measured(l.now())
		if err != nil {
			return costs{}, err
		}
		cpus, walls, wholes = append(cpus, one.cpu), append(walls, one.wall), append(wholes, one.whole)
	}
	return costs{measure.Median(cpus), measure.Median(walls), measure.Median(wholes)}, nil
}

// awaitShards waits until each shard's list is of this day.
func (l *listBench) awaitShards(ctx context.Context, day time.Time) error {
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		heads, err := l.CRLHeads(ctx, l.issuer.ID)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(heads, func(h store.CRLHead) bool {
			return h.Shard != ca.WholeList && h.ThisUpdate.Before(day.Truncate(time.Second))
		}) {
			tick.Stop()
			return nil
		}
		<-tick.C
	}
}

func (l *listBench) askAll(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(2)
	for shard := range ca.Shards {
		group.Go(func() error {
			_, err := l.CRL(ctx, l.issuer.ID, shard)
			return err
		})
	}
	return group.Wait()
}

// spentHere is the CPU time of this process that work took, in ms.
func spentHere(work func() error) (float64, error) {
	before, err := processTime()
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	after, err := processTime()
	return (after - before).Seconds() * 1000, err
}

func processTime() (time.Duration, error) {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), err
}
