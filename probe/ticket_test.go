package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var errWithdrawn = errors.New("its CA is withdrawn")

// takeOne takes the only ticket there is.
func takeOne(t *testing.T, spec Spec) *Ticket {
	t.Helper()
	tickets, results, err := TakeTickets(context.Background(), spec, 0, "bb")
	if err != nil || len(tickets) == 0 {
		t.Fatalf("no ticket: %+v, %v", results, err)
	}
	return tickets[0]
}

// comesBack is one offer of a ticket.
func comesBack(t *testing.T, ticket *Ticket) (TicketResult, Finding) {
	t.Helper()
	spec, offered := ticket.offer()
	seen := shake(t, spec)
	ticket.follow(seen, offered)
	return ticket.result(seen), ticket.judge(seen)
}

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
				Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: version, MinVersion: version,
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
				ticket := takeOne(t, Spec{Address: serveTLS(t, c.config), ServerName: "db.example", Certificate: &client, Now: time.Now})
				withdrawn.Store(true)
				c.between()
				for range 2 { // it may be tried again
					result, finding := comesBack(t, ticket)
					if result.Resumed != c.resumed || finding.Cause != c.cause || !strings.Contains(finding.Reason, c.says) ||
						(finding.Cause == Fits) != (result.Accepted == Rejected) || result.Shown() != (finding.Cause == Fits) ||
						result.Anchor != "bb" || result.Protocol != tls.VersionName(version) || result.Taken.IsZero() {
						t.Errorf("%+v, %+v", result, finding)
					}
				}
			})
		}
	}
}

// Without a ticket there is nothing to offer, and only a server that took the
// client and gave it none is known to give none. One that is gone proves
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
		tickets, results, err := TakeTickets(context.Background(), spec, 0, "aa")
		if len(tickets) > 0 || err != nil || len(results) == 0 {
			t.Fatalf("%s: %d tickets: %+v, %v", name, len(tickets), results, err)
		}
		for _, result := range results {
			if given := name == "gives none"; result.NoneGiven != given || result.Shown() != given || (result.Untaken == "") != given {
				t.Errorf("%s: %+v", name, result)
			}
		}
	}
	if _, _, err := TakeTickets(context.Background(), Spec{Address: "127.0.0.1:1", Now: time.Now}, 0, "aa"); err == nil {
		t.Error("a ticket without a certificate")
	}
	ticket := takeOne(t, Spec{Address: serveTLS(t, config), Certificate: &client, Now: time.Now})
	ticket.spec.Address = "127.0.0.1:1"
	if result, finding := comesBack(t, ticket); finding.Cause != CausePath || result.Accepted != NotKnown || result.Shown() {
		t.Errorf("gone: %+v, %+v", result, finding)
	}
}

// lender is a server that trusts A and B at first, then A alone, and keeps its
// ticket keys over that, or not.
func (c *court) lender(t *testing.T, checksSessions bool) (address string, withdraw func()) {
	t.Helper()
	var withdrawn atomic.Bool
	b := hexOf(c.b.Certificate[0])
	stranger := hexOf(c.t.Certificate[0])
	admit := func(raw [][]byte) error {
		if len(raw) > 0 && (hexOf(raw[0]) == stranger || withdrawn.Load() && hexOf(raw[0]) == b) {
			return errWithdrawn
		}
		return nil
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{c.leaf}, ClientAuth: tls.RequireAnyClientCert,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error { return admit(raw) },
	}
	if checksSessions {
		config.VerifyConnection = func(state tls.ConnectionState) error { return admit([][]byte{state.PeerCertificates[0].Raw}) }
	}
	return serveTLS(t, config), func() { withdrawn.Store(true) }
}

// TestProofOffersTickets: a server that refuses the canary of a withdrawn CA,
// and takes up its sessions, is not proven, over TLS 1.3 and 1.2; one that
// refuses both is, and the statement says so of both.
func TestProofOffersTickets(t *testing.T) {
	c := newCourt(t)
	for _, strict := range []bool{false, true} {
		address, withdraw := c.lender(t, strict)
		tickets, results, err := TakeTickets(context.Background(), Spec{Address: address, ServerName: "db.example", Certificate: &c.b, Now: time.Now}, tls.VersionTLS12, "bb")
		if err != nil || len(tickets) != 2 || results[0].Protocol != "TLS 1.3" || results[1].Protocol != "TLS 1.2" {
			t.Fatalf("%d tickets: %+v, %v", len(tickets), results, err)
		}
		withdraw()
		for i := range tickets {
			e := c.expect(address)
			e.Tickets, e.Timeout = tickets[i:], time.Second
			if !strict {
				e.Tickets = tickets[i : i+1]
			}
			verdict, seen := Prove(context.Background(), e)
			last := seen[len(seen)-1]
			switch {
			case strict && (!verdict.Proven || len(last.Tickets) != 2-i || !last.Tickets[0].Shown() || !last.Tickets[0].Resumed):
				t.Errorf("strict: %+v, %+v", verdict, last.Tickets)
			case !strict && (verdict.Proven || verdict.Cause != CauseTrusts || !strings.Contains(verdict.Reason, "over "+results[i].Protocol)):
				t.Errorf("keeps its sessions: %+v", verdict)
			case !strict && (len(last.Tickets) != 1 || last.Tickets[0].Shown() || !last.Tickets[0].Resumed || len(last.Trials) != 3):
				t.Errorf("evidence: %+v, %+v", last.Tickets, last.Trials)
			}
		}
	}
}

// A ticket without trials would show nothing.
func TestTicketsNeedControls(t *testing.T) {
	c := newCourt(t)
	address, _ := c.lender(t, false)
	e := c.expect(address)
	e.Tickets = []*Ticket{takeOne(t, Spec{Address: address, Certificate: &c.b, Now: time.Now})}
	e.Trials = nil
	if verdict, _ := Prove(context.Background(), e); verdict.Proven || !strings.Contains(verdict.Reason, "controls") {
		t.Errorf("%+v", verdict)
	}
}

// A session that was taken up goes on with the newest ticket, as clients do: a
// server that takes each once is not proven by the second offer of the first.
func TestTicketIsFollowed(t *testing.T) {
	c := newCourt(t)
	var used atomic.Int32
	config := &tls.Config{Certificates: []tls.Certificate{c.leaf}, ClientAuth: tls.RequireAnyClientCert}
	var taken sync.Map
	config.UnwrapSession = func(identity []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		if len(identity) == 0 {
			return nil, nil // a client of TLS 1.2 that has none
		}
		if _, before := taken.LoadOrStore(string(identity), true); before {
			return nil, nil
		}
		used.Add(1)
		return config.DecryptTicket(identity, state)
	}
	config.WrapSession = config.EncryptTicket
	ticket := takeOne(t, Spec{Address: serveTLS(t, config), ServerName: "db.example", Certificate: &c.b, Now: time.Now})
	for range 3 {
		if result, finding := comesBack(t, ticket); !result.Resumed || finding.Cause != CauseTrusts {
			t.Errorf("%+v, %+v", result, finding)
		}
	}
	if used.Load() != 3 {
		t.Errorf("%d tickets were used", used.Load())
	}
}
