package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var errWithdrawn = errors.New("its CA is withdrawn")

// TestTicket: a server that looks at certificates alone takes up sessions of a
// withdrawn CA, and that shows; one that looks at each connection refuses them,
// and so does one that has forgotten its keys.
func TestTicket(t *testing.T) {
	ca := newAuthority(t, "A")
	leaf, client := ca.leaf(t), ca.leaf(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		var withdrawn atomic.Bool
		look := func() error {
			if withdrawn.Load() {
				return errWithdrawn
			}
			return nil
		}
		plain := func() *tls.Config {
			return &tls.Config{
				Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: version,
				VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { return look() }, // not of a resumed session
			}
		}
		strict := plain()
		strict.VerifyConnection = func(tls.ConnectionState) error { return look() }
		forgetful := plain()
		forgetful.SetSessionTicketKeys([][32]byte{{1}})
		for _, c := range []struct {
			name    string
			config  *tls.Config
			between func()
			resumed bool
			cause   Cause
			says    string
		}{
			{"still trusted", plain(), func() { withdrawn.Store(false) }, true, CauseTrusts, "a session that was taken at"},
			{"looks at certificates alone", plain(), func() {}, true, CauseTrusts, "a session that was taken at"},
			{"looks at each connection", strict, func() {}, true, Fits, ""},
			{"has forgotten its keys", forgetful, func() { forgetful.SetSessionTicketKeys([][32]byte{{2}}) }, false, Fits, ""},
			{"has forgotten its keys and trusts", forgetful, func() { forgetful.SetSessionTicketKeys([][32]byte{{3}}); withdrawn.Store(false) }, false, CauseTrusts, "in a new one"},
		} {
			t.Run(tls.VersionName(version)+" "+c.name, func(t *testing.T) {
				withdrawn.Store(false)
				spec := Spec{Address: serveTLS(t, c.config), ServerName: "db.example", Certificate: &client, Now: time.Now}
				ticket, seen, err := TakeTicket(context.Background(), spec, "aa")
				if err != nil || ticket == nil || seen.Resumed {
					t.Fatalf("no ticket: %+v, %v", seen, err)
				}
				withdrawn.Store(true)
				c.between()
				for range 2 { // it may be tried again
					result, finding, err := ticket.Try(context.Background())
					if err != nil || result.Resumed != c.resumed || finding.Cause != c.cause || !strings.Contains(finding.Reason, c.says) ||
						(finding.Cause == Fits) != (result.Accepted == Rejected) || result.Anchor != "aa" || !result.Taken.Equal(seen.Time) {
						t.Errorf("%+v, %+v, %v", result, finding, err)
					}
				}
			})
		}
	}
}

// Without a ticket there is nothing to try, and a server that is gone proves
// nothing.
func TestNoTicket(t *testing.T) {
	ca := newAuthority(t, "A")
	leaf, client := ca.leaf(t), ca.leaf(t)
	config := &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert}
	silent := config.Clone()
	silent.SessionTicketsDisabled = true
	refusing := config.Clone()
	refusing.VerifyConnection = func(tls.ConnectionState) error { return errWithdrawn }
	uninterested := config.Clone()
	uninterested.ClientAuth = tls.NoClientCert
	for name, one := range map[string]*tls.Config{"gives none": silent, "refuses": refusing, "does not ask": uninterested} {
		spec := Spec{Address: serveTLS(t, one), Certificate: &client, Now: time.Now}
		if ticket, seen, err := TakeTicket(context.Background(), spec, "aa"); ticket != nil || err != nil {
			t.Errorf("%s: a ticket: %+v, %v", name, seen, err)
		}
	}
	if _, _, err := TakeTicket(context.Background(), Spec{Address: "127.0.0.1:1", Now: time.Now}, "aa"); err == nil {
		t.Error("a ticket without a certificate")
	}
	ticket, _, err := TakeTicket(context.Background(), Spec{Address: serveTLS(t, config), Certificate: &client, Now: time.Now}, "aa")
	if err != nil || ticket == nil {
		t.Fatal(err)
	}
	ticket.spec.Address = "127.0.0.1:1"
	if result, finding, err := ticket.Try(context.Background()); err != nil || finding.Cause != CausePath || result.Accepted != NotKnown {
		t.Errorf("gone: %+v, %+v, %v", result, finding, err)
	}
}
