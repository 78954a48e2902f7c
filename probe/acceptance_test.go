package probe

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
)

// TestServedAndAcceptedAreTwoFacts goes through what a server may demand and
// what a client may bring. The certificate is seen in every case.
func TestServedAndAcceptedAreTwoFacts(t *testing.T) {
	ca, stranger := newAuthority(t, "A"), newAuthority(t, "B")
	leaf := ca.leaf(t)
	good, bad := ca.leaf(t), stranger.leaf(t)
	type row struct {
		mode tls.ClientAuthType
		sent *tls.Certificate
		want Acceptance
	}
	rows := []row{
		{tls.NoClientCert, nil, NotKnown},
		{tls.NoClientCert, &good, NotKnown},
		{tls.RequestClientCert, nil, Accepted},
		{tls.RequestClientCert, &bad, Accepted},
		{tls.VerifyClientCertIfGiven, nil, Accepted},
		{tls.VerifyClientCertIfGiven, &bad, Rejected},
		{tls.RequireAndVerifyClientCert, nil, Rejected},
		{tls.RequireAndVerifyClientCert, &bad, Rejected},
		{tls.RequireAndVerifyClientCert, &good, Accepted},
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, tickets := range []bool{true, false} {
			for _, c := range rows {
				name := fmt.Sprintf("%s, tickets %t, %s, sent %t", tls.VersionName(version), tickets, c.mode, c.sent != nil)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					address := serveTLS(t, &tls.Config{
						Certificates: []tls.Certificate{leaf}, ClientAuth: c.mode, ClientCAs: ca.bundle.Pool(),
						MaxVersion: version, SessionTicketsDisabled: !tickets,
					})
					seen := shake(t, Spec{Address: address, ServerName: "db.example", Roots: ca.bundle, Certificate: c.sent, ReadAcceptance: true})
					want := c.want
					if want == Accepted && version == tls.VersionTLS13 && !tickets {
						want = Silent // it says nothing, and there is nothing more to be known
					}
					if seen.Outcome != Served || seen.Trust != Trusted {
						t.Errorf("outcome %s, trust %s: %s", seen.Outcome, seen.Trust, seen.Error)
					}
					if seen.Accepted != want || seen.ClientAuth != (c.mode != tls.NoClientCert) {
						t.Errorf("accepted %q, want %q; asked %t; %s", seen.Accepted, want, seen.ClientAuth, seen.Error)
					}
					if (seen.Sent != "") != (c.sent != nil && seen.ClientAuth) {
						t.Errorf("sent %q", seen.Sent)
					}
				})
			}
		}
	}
}

// TestCertificateIsSentWhateverIsAdvertised: a server that advertises only
// foreign issuers gets the certificate all the same, and its own refusal is
// what is recorded.
func TestCertificateIsSentWhateverIsAdvertised(t *testing.T) {
	ca, stranger := newAuthority(t, "A"), newAuthority(t, "B")
	leaf, client := ca.leaf(t), ca.leaf(t)
	address := serveTLS(t, &tls.Config{
		Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert, ClientCAs: stranger.bundle.Pool(),
	})
	seen := shake(t, Spec{Address: address, Certificate: &client, ReadAcceptance: true})
	if seen.Sent != hexOf(client.Certificate[0]) || seen.Accepted != Accepted {
		t.Errorf("sent %q, accepted %q", seen.Sent, seen.Accepted)
	}
	if len(seen.Authorities) != 1 || seen.Authorities[0] != "CN=B root" {
		t.Errorf("authorities %v", seen.Authorities)
	}
}

// TestHangingUpIsARejection: a server that drops the client without an alert
// has not accepted it.
func TestHangingUpIsARejection(t *testing.T) {
	leaf := newAuthority(t, "A").leaf(t)
	config := &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true}
	address := serve(t, func(conn net.Conn) {
		if err := tls.Server(conn, config).Handshake(); err != nil {
			t.Error(err)
		}
	})
	if seen := shake(t, Spec{Address: address, ReadAcceptance: true}); seen.Outcome != Served || seen.Accepted != Rejected {
		t.Errorf("outcome %s, accepted %q: %s", seen.Outcome, seen.Accepted, seen.Error)
	}
}

// TestWordsAreAnAcceptance: a server that greets has accepted.
func TestWordsAreAnAcceptance(t *testing.T) {
	leaf := newAuthority(t, "A").leaf(t)
	config := &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true}
	address := serve(t, func(conn net.Conn) {
		session := tls.Server(conn, config)
		_, _ = io.WriteString(session, "220 ready\r\n")
		_, _ = io.Copy(io.Discard, session)
	})
	if seen := shake(t, Spec{Address: address, ReadAcceptance: true}); seen.Accepted != Accepted {
		t.Errorf("accepted %q: %s", seen.Accepted, seen.Error)
	}
}
