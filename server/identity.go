package server

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
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

// errNoIdentity is why handshakes fail while no certificate can be signed.
var errNoIdentity = errors.New("this server has no certificate: the issuing authority has expired")

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
	return i, i.first(ctx)
}

// first makes the first certificate. Where the issuing authority itself has expired
// there is none: the server starts all the same, so that the admin socket is there
// to replace the authority by, and lists and the log are served.
func (i *identity) first(ctx context.Context) error {
	err := i.renew(ctx)
	if err == nil {
		return nil
	}
	ended, asked := i.control.IssuerEnded(ctx)
	if asked != nil || ended == "" {
		return err
	}
	i.log.Error("THE ISSUING AUTHORITY HAS EXPIRED: agents and operators can't connect", "reason", ended)
	i.current.Store(&snapshot{})
	return nil
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
	looking := time.NewTicker(lookAgainAfter) // another server may have died before it told of a change
	defer looking.Stop()
	renewAt := time.NewTimer(serverRenew)
	defer renewAt.Stop()
	for due := false; ; { // at once: trust may have changed before the watch began
		if due || i.outdated(ctx) {
			next := serverRenew
			if err := i.renew(ctx); err != nil {
				i.log.Error("renew the server's own certificate", "error", err)
				next = serverRetry
			}
			renewAt.Reset(next)
		}
		due = false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-renewAt.C:
			due = true
		case <-wake:
		case <-looking.C:
		}
	}
}

// outdated says whether trust has changed since the certificate was issued, as
// far as the store can be asked.
func (i *identity) outdated(ctx context.Context) bool {
	state, err := i.control.TrustState(ctx)
	return err == nil && state != i.current.Load().trust
}

// tls returns the configuration of a listener. It is made afresh for each
// handshake, so a new certificate or bundle is used by the next one.
func (i *identity) tls(clients tls.ClientAuthType, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := i.current.Load()
			if len(now.certificate.Certificate) == 0 {
				return nil, errNoIdentity
			}
			return &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: protocols,
				Certificates: []tls.Certificate{now.certificate}, ClientAuth: clients, ClientCAs: now.clientCAs,
				// A resumed session would skip the look at today's bundle.
				SessionTicketsDisabled: true,
			}, nil
		},
	}
}
