package story

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/interop/lab"
	"github.com/rotunda-pki/rotunda/interop/load"
)

// leaf is what a member serves now.
func (s *Subject) leaf(t testing.TB, m *Member) *x509.Certificate {
	t.Helper()
	chain, err := m.Eye.Served(context.Background())
	if err != nil {
		t.Fatalf("%s: %v\n%s", m.Name, err, m.Server.Log())
	}
	return chain[0]
}

// accepts says whether the server lets a client with this certificate do what
// clients do; err says why not.
func (s *Subject) accepts(m *Member, certificate *tls.Certificate) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	session, err := m.Dial(ctx, load.Config(s.Plane.Bundle("ab").Pool(), certificate))
	if err != nil {
		return err
	}
	defer session.Close()
	return session.Request(ctx)
}

// trusts fails the test unless clients under exactly these roots are let in. A
// root that nobody knows is the control of every refusal.
func (s *Subject) trusts(t testing.TB, m *Member, names string) {
	t.Helper()
	stranger, err := lab.NewRoot("stranger")
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []*lab.Root{s.Plane.A, s.Plane.B, stranger} {
		certificate, err := root.Client(ClientName)
		if err != nil {
			t.Fatal(err)
		}
		wanted := root == s.Plane.A && names != "b" || root == s.Plane.B && names != "a"
		if err := s.accepts(m, certificate); (err == nil) != wanted {
			t.Errorf("%s with bundle %q: a client under root %s: wanted in: %v; got %v", m.Name, names, root.Name, wanted, err)
		}
	}
}

// ClientName is the common name of every client.
const ClientName = "app"

// shown is the certificate that the eye shows to servers that ask.
func (s *Subject) shown() *tls.Certificate {
	if s.Load == nil {
		return nil
	}
	return s.Load.Shown()
}

// Employ sets clients to work.
func (s *Subject) Employ(t *testing.T, o load.Options) {
	t.Helper()
	certificate, err := s.Plane.A.Client(ClientName)
	if err != nil {
		t.Fatal(err)
	}
	o.Complain = func(format string, args ...any) {
		s.Say(t, "CLIENT: "+format, args...)
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	s.Load = load.Start(o, s.Plane.Bundle("a").Pool(), certificate)
	t.Cleanup(func() { s.Load.Stop() })
}
