package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gowebpki/jcs"
	"github.com/rotunda-pki/rotunda/pki"
)

func TestHandshakeSaysWhatIsServed(t *testing.T) {
	ca := newAuthority(t, "A")
	leaf := ca.leaf(t)
	for _, c := range []struct {
		version         uint16
		protocol, group string
	}{
		{tls.VersionTLS13, "TLS 1.3", "X25519MLKEM768"},
		{tls.VersionTLS12, "TLS 1.2", "X25519"},
	} {
		address := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: c.version})
		now := time.Now()
		seen := shake(t, Spec{
			Address: address, ServerName: "db.example", Roots: ca.bundle, Observer: "agent-1",
			Now: func() time.Time { return now },
		})
		if seen.Outcome != Served || seen.Error != "" {
			t.Fatalf("outcome %s: %s", seen.Outcome, seen.Error)
		}
		if seen.Leaf.Fingerprint != pki.FingerprintOf(leaf.Leaf.Raw).String() {
			t.Errorf("leaf %s", seen.Leaf.Fingerprint)
		}
		if want := hex.EncodeToString(leaf.Leaf.SerialNumber.Bytes()); seen.Leaf.Serial != want {
			t.Errorf("serial %s, want %s", seen.Leaf.Serial, want)
		}
		if !seen.Leaf.NotAfter.Equal(leaf.Leaf.NotAfter) || len(seen.Chain) != 2 || seen.Chain[1] != pki.FingerprintOf(ca.issuing.Raw).String() {
			t.Errorf("not after %s, chain %v", seen.Leaf.NotAfter, seen.Chain)
		}
		if seen.Protocol != c.protocol || seen.Group != c.group || seen.Cipher == "" {
			t.Errorf("protocol %s, group %s, cipher %s", seen.Protocol, seen.Group, seen.Cipher)
		}
		if seen.Trust != Trusted || seen.ClientAuth || seen.Accepted != NotKnown || seen.LatencyMicros <= 0 {
			t.Errorf("trust %q, client auth %t, accepted %q, latency %d", seen.Trust, seen.ClientAuth, seen.Accepted, seen.LatencyMicros)
		}
		if !seen.Time.Equal(now.Truncate(time.Microsecond)) || seen.Time.Location() != time.UTC {
			t.Errorf("time %v, want %v", seen.Time, now)
		}
	}
}

func TestHandshakeSaysWhyAChainIsNotTrusted(t *testing.T) {
	ca, stranger := newAuthority(t, "A"), newAuthority(t, "B")
	bare := ca.leaf(t)
	bare.Certificate = bare.Certificate[:1]
	for name, c := range map[string]struct {
		leaf tls.Certificate
		as   string
		want string
	}{
		"expired":                 {ca.leaf(t, expired), "db.example", "expired"},
		"another name":            {ca.leaf(t), "other.example", "other.example"},
		"another root":            {stranger.leaf(t), "db.example", ""},
		"no intermediate":         {bare, "db.example", ""},
		"for clients only":        {ca.leaf(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), "db.example", "usage"},
		"an address that has not": {ca.leaf(t), "127.0.0.2", "127.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			address := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{c.leaf}})
			seen := shake(t, Spec{Address: address, ServerName: c.as, Roots: ca.bundle})
			if seen.Outcome != Served {
				t.Fatalf("a server with a bad certificate still serves it: %s %s", seen.Outcome, seen.Error)
			}
			if seen.Trust == Trusted || seen.Trust == "" || !strings.Contains(seen.Trust, c.want) {
				t.Errorf("trust %q should speak of %q", seen.Trust, c.want)
			}
		})
	}
}

// TestNoHandshakeIsResumed: a server with tickets never sees one come back.
func TestNoHandshakeIsResumed(t *testing.T) {
	leaf := newAuthority(t, "A").leaf(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		resumed := make(chan bool, 10)
		config := &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: version, ClientAuth: tls.RequestClientCert}
		config.UnwrapSession = func(ticket []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
			if len(ticket) > 0 { // in TLS 1.2 an empty one asks for a ticket
				resumed <- true
			}
			return nil, nil
		}
		address := serveTLS(t, config)
		for range 3 {
			if seen := shake(t, Spec{Address: address, ServerName: "db.example", ReadAcceptance: true}); seen.Accepted != Accepted {
				t.Fatalf("accepted %q: no ticket came, so this test shows nothing", seen.Accepted)
			}
		}
		if len(resumed) > 0 {
			t.Errorf("%s: a session was offered for resumption", tls.VersionName(version))
		}
	}
}

func TestStatementIsCanonical(t *testing.T) {
	ca := newAuthority(t, "A")
	leaf := ca.leaf(t)
	address := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert, ClientCAs: ca.bundle.Pool()})
	seen := shake(t, Spec{Address: address, ServerName: "db.example", Roots: ca.bundle, Certificate: &leaf, ReadAcceptance: true})
	statement, err := seen.Statement()
	if err != nil {
		t.Fatal(err)
	}
	again, err := jcs.Transform(statement)
	if err != nil || string(again) != string(statement) {
		t.Errorf("not canonical (%v): %s", err, statement)
	}
	var back Observation
	if err := json.Unmarshal(statement, &back); err != nil {
		t.Fatal(err)
	}
	if second, err := back.Statement(); err != nil || string(second) != string(statement) {
		t.Errorf("read back and written again it differs (%v):\n%s\n%s", err, second, statement)
	}
	if len(back.Authorities) != 1 || back.Sent != back.Leaf.Fingerprint {
		t.Errorf("the client certificate's story is lost: %s", statement)
	}
}

func TestHandshakeRefusesSpecsWithoutSense(t *testing.T) {
	for _, spec := range []Spec{
		{}, {Address: "db.example"}, {Address: ":443"}, {Address: "db:0"}, {Address: "db:https"}, {Address: "db:70000"},
		{Address: "127.0.0.1:1", Preamble: "telnet"},
		{Address: "127.0.0.1:1", MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12},
	} {
		spec.Now = time.Now
		if seen, err := Handshake(context.Background(), spec); err == nil {
			t.Errorf("%+v: %+v", spec, seen)
		}
	}
}

func TestHandshakeEndsWhenCancelled(t *testing.T) {
	began := make(chan struct{})
	address := serve(t, func(conn net.Conn) { close(began); _, _ = io.Copy(io.Discard, conn) })
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-began; cancel() }()
	start := time.Now()
	if _, err := Handshake(ctx, Spec{Address: address, Timeout: time.Minute, Now: time.Now}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}
