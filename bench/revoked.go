package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fleetload"
	"github.com/rotunda-pki/rotunda/internal/measure"
	"github.com/rotunda-pki/rotunda/pki"
)

// holding is when a listener held a set of lists, and what they revoke.
type holding struct {
	at      time.Time
	revoked map[string]bool // by serial number, decimal
	err     error
}

// revoked measures how long a revocation takes from the operator's call till
// the last of a thousand connected agents holds a list that says so: committed,
// signed, pushed and fetched, TLS and store included. The floor is that all of
// them fetch at once a list that the server has in memory.
func (b *bench) revoked(ctx context.Context) ([]Result, error) {
	server, err := b.server(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	if err := b.applyLists(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := make(chan holding, listeners)
	tell := func(one holding) {
		select {
		case news <- one:
		case <-ctx.Done():
		}
	}
	var digest sync.Map // of the lists that a listener holds
	load, err := b.load(ctx, server)
	if err != nil {
		return nil, err
	}
	all, err := b.listen(ctx, load.Run, map[string]string{"host": "listener"}, func(one *fleetload.Agent, desired *api.DesiredState, err error) {
		if err == nil && (len(desired.Placements) == 0 || desired.Placements[0].CrlDigest == "") {
			return // the lists come yet
		}
		if err == nil {
			if before, _ := digest.Swap(one, desired.Placements[0].CrlDigest); before == desired.Placements[0].CrlDigest {
				return
			}
			var revoked map[string]bool
			revoked, err = fetchLists(ctx, one, desired.Placements[0].CrlDigest)
			tell(holding{time.Now(), revoked, err})
			return
		}
		tell(holding{err: err})
	})
	defer func() {
		cancel() // so that nobody hears of it
		fleetload.Disconnect(all)
	}()
	if err != nil {
		return nil, err
	}
	if _, err := awaitHolding(ctx, news, ""); err != nil {
		return nil, err
	}
	var p50, p99, last, floors []float64
	for round := range rounds {
		took, err := b.revokeOnce(ctx, news, round)
		if err != nil {
			return nil, err
		}
		p50, p99, last = append(p50, took[len(took)/2]), append(p99, took[len(took)*99/100]), append(last, took[len(took)-1])
		held, _ := digest.Load(all[0])
		floor, err := fetchAtOnce(ctx, all, held.(string))
		if err != nil {
			return nil, err
		}
		floors = append(floors, floor)
	}
	name, floor := fmt.Sprintf("a revocation to %d agents: ", listeners), measure.Median(floors)
	return []Result{
		{Name: name + "median", Value: measure.Median(p50), Unit: "ms", Floor: floor, Target: "-"},
		{Name: name + "p99", Value: measure.Median(p99), Unit: "ms", Floor: floor, Target: "-"},
		{Name: name + "the last", Value: measure.Median(last), Unit: "ms", Floor: floor, Target: "≤ 1000"},
	}, nil
}

// applyLists declares a placement of each listener that lists are delivered to.
func (b *bench) applyLists(ctx context.Context) error {
	text := strings.NewReplacer(
		"usages: [serverAuth]}", "usages: [serverAuth], revocation: {crl: true}}", "{host: bench}", "{host: listener}",
		"DIRECTORY", filepath.Join(b.delivery(), "bench"),
	).Replace(documents)
	path := filepath.Join(b.dir, "lists.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return b.rotunda(ctx, "apply", "--state", b.state(), "-f", path)
}

// fetchLists returns what the lists of a digest revoke.
func fetchLists(ctx context.Context, one *fleetload.Agent, digest string) (map[string]bool, error) {
	fetched, err := one.FetchBlobs(ctx, digest)
	if err != nil {
		return nil, err
	}
	revoked := map[string]bool{}
	for _, blob := range fetched {
		for _, der := range blob.Crls {
			list, err := x509.ParseRevocationList(der)
			if err != nil {
				return nil, err
			}
			for _, entry := range list.RevokedCertificateEntries {
				revoked[entry.SerialNumber.String()] = true
			}
		}
	}
	return revoked, nil
}

// fetchAtOnce is how long it takes until all listeners fetched what the server
// has ready, in ms.
func fetchAtOnce(ctx context.Context, all []*fleetload.Agent, digest string) (float64, error) {
	began := time.Now()
	failed := make(chan error, len(all))
	for _, one := range all {
		go func() {
			_, err := fetchLists(ctx, one, digest)
			failed <- err
		}()
	}
	var first error
	for range all {
		if err := <-failed; err != nil && first == nil {
			first = err
		}
	}
	return float64(time.Since(began).Microseconds()) / 1000, first
}

// revokeOnce revokes one certificate, and returns how long each listener took to
// hold a list with it, in ms, sorted.
func (b *bench) revokeOnce(ctx context.Context, news <-chan holding, round int) ([]float64, error) {
	csrs, err := fleetload.CSRs(ctx, 1)
	if err != nil {
		return nil, err
	}
	operator := b.operator()
	issued, err := operator.IssueOperator(ctx, connect.NewRequest(&api.IssueOperatorRequest{Name: fmt.Sprintf("revoked-%d", round), Csr: csrs[0]}))
	if err != nil {
		return nil, err
	}
	chain, err := pki.ParseChainDER(issued.Msg.Chain)
	if err != nil {
		return nil, err
	}
	serial, err := pki.SerialOf(chain.Leaf)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := operator.Revoke(ctx, connect.NewRequest(&api.RevokeRequest{Serial: serial.String(), Now: true})); err != nil {
		return nil, err
	}
	times, err := awaitHolding(ctx, news, chain.Leaf.SerialNumber.String())
	var took []float64
	for _, at := range times {
		took = append(took, float64(at.Sub(began).Microseconds())/1000)
	}
	slices.Sort(took)
	return took, err
}

// awaitHolding waits until each listener holds lists with the serial; empty:
// until it holds any.
func awaitHolding(ctx context.Context, news <-chan holding, serial string) (times []time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for len(times) < listeners {
		select {
		case one := <-news:
			if one.err != nil {
				return times, one.err
			}
			if serial == "" || one.revoked[serial] {
				times = append(times, one.at)
			}
		case <-ctx.Done():
			return times, fmt.Errorf("%d of %d agents hold a list with %q: %w", len(times), listeners, serial, ctx.Err())
		}
	}
	return times, nil
}
