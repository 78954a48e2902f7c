// Package story tells what happens to certificates in production, to one kind
// of server at a time, while clients are at work on it.
package story

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/interop/eye"
	"github.com/rotunda-pki/rotunda/interop/lab"
	"github.com/rotunda-pki/rotunda/interop/load"
	"github.com/rotunda-pki/rotunda/interop/table"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// Subject is a kind of server, as one process or as a cluster of several, with
// its agents and its clients.
type Subject struct {
	Adapter target.Adapter
	Plane   *lab.Plane
	Members []*Member
	Load    *load.Load
	Tally   *table.Tally
	// Sparse says how many points between two kills are passed over: 1 is
	// none. It is for kinds whose renewal takes seconds.
	Sparse int
	// Links proves that the members reach each other, by connections that are
	// made anew, after the member changed. nil: they do not.
	Links func(t *testing.T, m *Member)
	// Whole waits until a cluster is itself again after a member was away, so that
	// clients which were held are heard at once. Nil: nothing is to be awaited.
	Whole func() error
	// Order is whose turn comes when a bundle is given out. nil: as they joined.
	Order func(t *testing.T) []*Member
	// Second is a control path that leads to another server of the kind. nil:
	// there is none.
	Second func(t *testing.T) *target.Control

	began time.Time
}

// Member is one server with the agent of its host.
type Member struct {
	Name      string
	Placement string // its id
	Identity  string // that of its client's certificate; empty: it has none
	Host      *lab.Host
	Server    *targettest.Server
	Settings  lab.Settings
	Dial      load.Dialer
	Eye       eye.Eye

	subject   *Subject
	overtaken func(*api.PlacementReport) bool // that the agent has gone on since
	patience  time.Duration                   // that a proof may take

	mu    sync.Mutex
	fault string               // what is wrong on purpose; empty: all is well
	seen  *api.PlacementReport // that was judged last
	claim claimed              // that was looked behind last
}

// Say writes a line of progress.
func (s *Subject) Say(t testing.TB, format string, args ...any) {
	if s.began.IsZero() {
		s.began = time.Now()
	}
	progress("%-11s %6.1fs  %s", s.Tally.Row().Kind, time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// Plain is the desire for a placement that serves under root A: a certificate
// for localhost that is proven by handshakes.
func Plain(kind fleet.TargetKind, at target.Target, account string, plane *lab.Plane, timeout time.Duration) func(*api.DesiredPlacement) {
	return func(d *api.DesiredPlacement) {
		d.Intent, d.Service, d.Instance = string(kind), "orders", "main"
		d.Identity = &api.Identity{DnsNames: []string{"localhost"}, IpAddresses: []string{"127.0.0.1"}}
		d.Profile = &api.ProfileTerms{
			Algorithm: "ecdsa-p256", Usages: []string{"serverAuth"}, Lifetime: durationpb.New(12 * time.Hour),
			RideOut: durationpb.New(10 * time.Minute), Grace: durationpb.New(10 * time.Second), RepairDrift: true,
		}
		d.BundleDigest = plane.Bundle("a").Digest().String()
		d.Target = &api.TargetSpec{Kind: string(kind), Name: at.Name, Address: at.Address, ServerName: at.ServerName, Preamble: string(at.Preamble)}
		d.Files = &api.FilesSpec{Directory: at.Directory, Owner: account, Mode: "0600"}
		d.Proof = &api.ProofSpec{Level: api.Level_LEVEL_DELIVERED, Observe: durationpb.New(300 * time.Millisecond), Timeout: durationpb.New(timeout)}
	}
}

// limit bounds every wait of a story.
const limit = 90 * time.Second

// want changes what is desired of a member.
func (m *Member) want(t testing.TB, change func(*api.DesiredPlacement)) {
	t.Helper()
	if err := m.Host.Want(m.Placement, change); err != nil {
		t.Fatal(err)
	}
}

// await waits until the agent reports what fits.
func (m *Member) await(t testing.TB, what string, fits func(*api.PlacementReport) bool) *api.PlacementReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	report, err := m.Host.Await(ctx, m.Placement, what, func(r *api.PlacementReport) bool {
		return fits(r) || inTrouble(r) && !m.troubled() // no use to wait
	})
	if err == nil && !fits(report) {
		err = fmt.Errorf("%s: failed instead of %s: %s: %s", m.Name, what, report.GetFailure().GetStep(), report.GetFailure().GetReason())
	}
	if err != nil {
		t.Fatalf("%v\nagent: %s\nserver: %s", err, m.Host.Journal(), m.Server.Log())
	}
	return report
}

// report is what the agent showed last.
func (m *Member) report(t testing.TB) *api.PlacementReport {
	t.Helper()
	return m.await(t, "reported", func(*api.PlacementReport) bool { return true })
}

// proven waits until a generation above this one is in use and proven.
func (m *Member) proven(t testing.TB, above uint64) *api.PlacementReport {
	t.Helper()
	return m.await(t, fmt.Sprintf("proven above generation %d", above), func(r *api.PlacementReport) bool {
		return settled(r) && r.GetGeneration() > above
	})
}

func settled(r *api.PlacementReport) bool {
	return r.GetState() == api.State_STATE_STEADY && r.GetLevel() == api.Level_LEVEL_PROVEN
}

// renew asks for a renewal and returns the generation that is to be renewed.
func (m *Member) renew(t testing.TB, changes ...func(*api.DesiredPlacement)) (from uint64) {
	t.Helper()
	from = m.report(t).GetGeneration()
	m.want(t, func(d *api.DesiredPlacement) {
		d.RenewThrough, d.NewKey = from, false
		d.Attempt++
		for _, change := range changes {
			change(d)
		}
	})
	return from
}

// trouble says what is wrong on purpose from now on: failures that the agent
// reports are right. Calm says that nothing is any more.
func (m *Member) trouble(what string) { m.mu.Lock(); m.fault = what; m.mu.Unlock() }
func (m *Member) calm()               { m.trouble("") }

func (m *Member) troubled() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.fault != "" }
