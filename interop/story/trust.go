package story

import (
	"context"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/interop/table"
)

// Trust replaces root A by root B: the new anchor first, then the leaf, then
// the old anchor goes; after each, clients under either root are let in or not
// as the bundle says. Trust before leaf, leaf before distrust.
func (s *Subject) Trust(t *testing.T) {
	s.bundle(t, "ab")
	s.Load.Trust(s.Plane.Bundle("ab").Pool())
	s.leafUnderB(t)
	s.bundle(t, "b")
	s.Load.Trust(s.Plane.Bundle("b").Pool())
}

// bundle gives a bundle to each member in turn, and tries what it trusts then.
func (s *Subject) bundle(t *testing.T, names string) {
	t.Helper()
	digest := s.Plane.Bundle(names).Digest().String()
	members := s.Members
	if s.Order != nil {
		members = s.Order(t)
	}
	for _, m := range members {
		s.identity(t, m, func(d *api.DesiredPlacement) { d.BundleDigest = digest })
		m.want(t, func(d *api.DesiredPlacement) { d.BundleDigest = digest })
		m.await(t, "proven with bundle "+names, func(r *api.PlacementReport) bool {
			return settled(r) && r.GetBundleDigest() == digest
		})
		s.trusts(t, m, names)
		s.linked(t, m)
	}
}

// identity changes the member's client certificate, before its server's, and
// waits until that is delivered.
func (s *Subject) identity(t *testing.T, m *Member, change func(*api.DesiredPlacement)) {
	t.Helper()
	if m.Identity == "" {
		return
	}
	if err := m.Host.Want(m.Identity, change); err != nil {
		t.Fatal(err)
	}
	wanted := m.Host.Desired(m.Identity)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, err := m.Host.Await(ctx, m.Identity, "delivered", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_STEADY && r.GetBundleDigest() == wanted.GetBundleDigest() && r.GetGeneration() > wanted.GetRenewThrough()
	}); err != nil {
		t.Fatal(err)
	}
}

// renewIdentity renews it, where there is one.
func (s *Subject) renewIdentity(t *testing.T, m *Member) {
	t.Helper()
	s.identity(t, m, func(d *api.DesiredPlacement) { d.RenewThrough++ })
}

func (s *Subject) linked(t *testing.T, m *Member) {
	t.Helper()
	if s.Links != nil {
		s.Links(t, m)
	}
}

func (s *Subject) leafUnderB(t *testing.T) {
	t.Helper()
	if err := s.Plane.Signer("b"); err != nil {
		t.Fatal(err)
	}
	for _, m := range s.Members {
		s.renewIdentity(t, m)
		from := m.renew(t)
		m.proven(t, from)
		s.linked(t, m)
		if err := s.leaf(t, m).CheckSignatureFrom(s.Plane.B.Issuing); err != nil {
			t.Errorf("%s serves a leaf that is not under root B: %v", m.Name, err)
		}
		s.trusts(t, m, "ab")
		s.Tally.Count(func(r *table.Row) { r.Renewals++ })
	}
	certificate, err := s.Plane.B.Client(ClientName)
	if err != nil {
		t.Fatal(err)
	}
	s.Load.Show(certificate)
}
