package server

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/pki"
)

// The server's own certificate lives a day and is renewed after two thirds of
// it. Its key is made anew each time and never leaves memory.
const (
	serverLife  = 24 * time.Hour
	serverRenew = serverLife * 2 / 3
	serverRetry = time.Minute
)

// identity is the server's own certificate and what it verifies clients by:
// one immutable snapshot behind a pointer.
type identity struct {
	control  *control.Control
	id       string
	dns, ips []string
	log      *slog.Logger
	current  atomic.Pointer[snapshot]
}

type snapshot struct {
	certificate tls.Certificate
	clientCAs   *x509.CertPool
	trust       string // what it was made under: see control.TrustState
}

func newIdentity(ctx context.Context, o Options) (*identity, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	i := &identity{control: o.Control, id: host, log: o.Log}
	for _, name := range o.Config.Names {
		if net.ParseIP(name) != nil {
			i.ips = append(i.ips, name)
		} else {
			i.dns = append(i.dns, name)
		}
	}
	return i, i.renew(ctx)
}

func (i *identity) renew(ctx context.Context) error {
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		return err
	}
	state, err := i.control.TrustState(ctx) // before: what changes meanwhile is looked at again
	if err != nil {
		return err
	}
	chain, err := i.control.ServerIdentity(ctx, i.id, key.Public(), i.dns, i.ips, serverLife)
	if err != nil {
		return fmt.Errorf("issue the server's own certificate: %w", err)
	}
	bundle, err := i.control.DomainBundle(ctx)
	if err != nil {
		return err
	}
	i.current.Store(&snapshot{
		certificate: tls.Certificate{Certificate: chain, PrivateKey: key.(crypto.PrivateKey)},
		clientCAs:   bundle.Pool(),
		trust:       state,
	})
	return nil
}

// run keeps the certificate young, and under the authority that signs now. The
// old one stays when a renewal fails.
func (i *identity) run(ctx context.Context) error {
	wake, stop := i.control.WatchTrust()
	defer stop()
	for wait := time.Duration(0); ; { // at once: trust may have changed before the watch began
		timer := time.NewTimer(wait)
		due := wait > 0
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		case <-wake:
			timer.Stop()
			due = false
		}
		wait = serverRenew
		if state, err := i.control.TrustState(ctx); !due && err == nil && state == i.current.Load().trust {
			continue
		}
		if err := i.renew(ctx); err != nil {
			i.log.Error("renew the server's own certificate", "error", err)
			wait = serverRetry
		}
	}
}

// tls returns the configuration of a listener. It is made afresh for each
// handshake, so a new certificate or bundle is used by the next one.
func (i *identity) tls(clients tls.ClientAuthType, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := i.current.Load()
			return &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: protocols,
				Certificates: []tls.Certificate{now.certificate}, ClientAuth: clients, ClientCAs: now.clientCAs,
				// A resumed session would skip the look at today's bundle.
				SessionTicketsDisabled: true,
			}, nil
		},
	}
}
