package agent

import (
	"context"
	"crypto/x509"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/target"
)

// listLife is how long the lab's lists are good for.
const listLife = 4 * time.Hour

// crls signs lists of issuing authority a, with these on it, and of root a.
func (l *lab) crls(number int64, from time.Time, revoked ...*x509.Certificate) pki.CRLs {
	l.t.Helper()
	entries := ca.NewEntries(ca.WholeList)
	for _, cert := range revoked {
		serial, err := pki.SerialOf(cert)
		check(l.t, err)
		check(l.t, entries.Add(ca.Revocation{Serial: serial, At: from, Reason: "superseded", Ends: cert.NotAfter}))
	}
	terms := ca.CRLTerms{Number: number, This: from, Next: from.Add(listLife)}
	issuing, err := l.roots["a"].authority.SignCRL(ca.WholeList, terms, entries)
	check(l.t, err)
	root, err := ca.SignRootCRL(from, l.roots["a"].anchor, l.roots["a"].key, number, ca.NewEntries(ca.WholeList))
	check(l.t, err)
	return l.offerCRLs(issuing.DER(), root)
}

// offerCRLs lets CRLs be had by their digest.
func (l *lab) offerCRLs(ders ...[]byte) pki.CRLs {
	l.t.Helper()
	crls, err := pki.ParseCRLs(ders)
	check(l.t, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lists == nil {
		l.lists = map[string]pki.CRLs{}
	}
	l.lists[crls.Digest().String()] = crls
	return crls
}

func (l *lab) findCRLs(_ context.Context, digest string) (pki.CRLs, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	crls, ok := l.lists[digest]
	if l.down || !ok {
		return crls, fault.New(fault.Unavailable, "no server has CRLs %s", digest)
	}
	return crls, nil
}

func (l *lab) findStaple(_ context.Context, digest string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	der, ok := l.staples[digest]
	if l.down || !ok {
		return nil, fault.New(fault.Unavailable, "no server has staple %s", digest)
	}
	return der, nil
}

// listing desires CRLs; what becomes of them near their end is closed, unless it
// is said.
func listing(crls pki.CRLs, stale ...fleet.OnStale) func(*api.DesiredPlacement) {
	return func(d *api.DesiredPlacement) {
		_, until := crls.Life()
		d.CrlDigest, d.CrlUntil = crls.Digest().String(), timestamppb.New(until)
		if d.Profile.StaleCrl == "" {
			d.Profile.StaleCrl = string(fleet.StaleClosed)
		}
		for _, one := range stale {
			d.Profile.StaleCrl = string(one)
		}
	}
}

func nginxAdapter(t testing.TB) target.Adapter {
	t.Helper()
	adapter, err := target.Lookup(fleet.TargetNginx)
	check(t, err)
	return adapter
}

// withLists waits until these are in use and all is well.
func (l *lab) withLists(id string, crls pki.CRLs, level api.Level) *api.PlacementReport {
	l.t.Helper()
	return l.until(id, "steady with the CRLs", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_STEADY && r.GetCrlDigest() == crls.Digest().String() && r.GetCrlLevel() == level
	})
}
