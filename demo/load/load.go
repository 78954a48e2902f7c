// Package load is the demo's clients: they read and write all the while, on
// connections that they keep and on connections that they open for one
// exchange, and count what happens.
//
// A request that failed counts as failed: nothing here tries again, and the
// retries that etcd's client would do by itself are switched off. Only HTTP
// clients do what they all do: a GET that finds its kept connection closed goes
// over another one. And once restarts are to be expected, an etcd client that
// does not get through to its member asks the others, for as long as a request
// may take, as clients that know their cluster do; each time is counted.
package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long one request may take before it has failed.
const patience = 5 * time.Second

// How often a client with a kept connection asks, and how often a new
// connection is opened, at each server.
const (
	keptEvery = 25 * time.Millisecond
	newEvery  = 100 * time.Millisecond
)

// Settings says whom the clients speak with, and as whom.
type Settings struct {
	Identity string   // directory of the placement that holds the clients' certificate
	Etcd     []string // host:port of each member
	Greeter  string   // host:port
	Greets   string   // the greeter's name
	// Installed is the servers that were picked up on this machine.
	Installed []Installed
}

// Load is clients at work.
type Load struct {
	Counts

	settings Settings
	restarts atomic.Bool // of etcd's members are to be expected
	stop     chan struct{}
	stopOnce sync.Once
	busy     sync.WaitGroup
}

// Start sets the clients to work.
func Start(settings Settings) *Load {
	l := StartInstalled(settings)
	for i, member := range settings.Etcd {
		others := slices.Delete(slices.Clone(settings.Etcd), i, i+1)
		l.busy.Go(func() { l.keepEtcd(member, others, fmt.Sprintf("demo/kept/%d", i)) })
		l.busy.Go(func() { l.openEtcd(member, others, fmt.Sprintf("demo/new/%d", i)) })
	}
	l.busy.Go(l.keepGreeter)
	l.busy.Go(l.openGreeter)
	return l
}

// StartInstalled sets only the clients of the servers that were picked up to
// work.
func StartInstalled(settings Settings) *Load {
	l := &Load{settings: settings, stop: make(chan struct{})}
	for _, s := range settings.Installed {
		l.busy.Go(func() { l.keepInstalled(s) })
		l.busy.Go(func() { l.openInstalled(s) })
	}
	return l
}

// ExpectRestarts lets the clients of etcd bear that a member restarts.
func (l *Load) ExpectRestarts() { l.restarts.Store(true) }

// Stop lets the requests under way end, and then the clients.
func (l *Load) Stop() {
	l.stopOnce.Do(func() { close(l.stop) })
	l.busy.Wait()
}

// each calls do at every tick until the clients are stopped.
func (l *Load) each(every time.Duration, do func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			do()
		}
	}
}

// request does one request and counts how it went.
func (l *Load) request(what string, do func(ctx context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := do(ctx)
	l.note(what, err)
	return err == nil
}

// roots is the bundle that was delivered beside the clients' certificate.
func (l *Load) roots() (*x509.CertPool, error) {
	content, err := os.ReadFile(filepath.Join(l.settings.Identity, "current", "bundle.pem"))
	if err != nil {
		return nil, fmt.Errorf("read the clients' bundle: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, errors.New("the clients' bundle holds no certificate")
	}
	return pool, nil
}

// Certificate loads what a placement's directory holds now: a certificate and
// the key of the same revision.
func Certificate(directory string) (*tls.Certificate, error) {
	revision, err := filepath.EvalSymlinks(filepath.Join(directory, "current"))
	if err != nil {
		return nil, fmt.Errorf("find the current revision: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(revision, "chain.pem"), filepath.Join(revision, "key.pem"))
	if err != nil {
		return nil, fmt.Errorf("load the certificate: %w", err)
	}
	return &pair, nil
}
