package story

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/interop/table"
)

// Outages stops, freezes and restarts the server around a rotation. Clients are
// held meanwhile: what is asked here is not whether a server that is down
// answers, but what the agent says of it, and that the rotation ends well.
func (s *Subject) Outages(t *testing.T) {
	m := s.Members[0]
	s.stopped(t, m)
	s.frozen(t, m)
	s.restarted(t, m, "activate: switched", m.Server.Restart)
	s.restarted(t, m, "activate: loaded", func() { m.Server.Kill(); m.gone(t); m.Server.Start() })
}

// stopped renews while the server is down.
func (s *Subject) stopped(t *testing.T, m *Member) {
	m.trouble("it is stopped")
	var from uint64
	s.away(t, func() {
		m.Server.Stop()
		from = m.renew(t, hasty)
		m.await(t, "failed while stopped", inTrouble)
		m.Server.Start()
	})
	s.mended(t, m, from)
}

// frozen stops the server's processes in the middle of a rotation.
func (s *Subject) frozen(t *testing.T, m *Member) {
	m.trouble("it is frozen")
	var from uint64
	s.away(t, func() {
		m.once("activate: switched", func() error { m.Server.Freeze(); return nil })
		from = m.renew(t, hasty)
		m.await(t, "failed while frozen", inTrouble)
		m.Server.Thaw()
	})
	s.mended(t, m, from)
}

// restarted restarts the server at a point of a rotation.
func (s *Subject) restarted(t *testing.T, m *Member, point string, restart func()) {
	m.trouble("it is restarted")
	m.once(point, func() error {
		return s.held(restart)
	})
	from := m.renew(t)
	m.await(t, "at an end", func(r *api.PlacementReport) bool {
		return inTrouble(r) || settled(r) && r.GetGeneration() > from
	})
	s.mended(t, m, from)
}

// gone waits until nobody answers at the server's port: its workers end a
// moment after it.
func (m *Member) gone(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for ctx.Err() == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.Server.Target.Address)
		if err != nil {
			return
		}
		_ = conn.Close()
		time.Sleep(5 * time.Millisecond) // the pace of knocking
	}
	t.Errorf("%s was killed, and somebody answers at %s", m.Name, m.Server.Target.Address)
}

// mended lets the rotation end now that the server is well. From then on a
// failure is a false one.
func (s *Subject) mended(t *testing.T, m *Member, from uint64) {
	t.Helper()
	m.Host.OnReached(nil)
	if report := m.report(t); !settled(report) || report.GetGeneration() <= from {
		m.want(t, m.patient)
	}
	report := m.proven(t, from)
	m.calm()
	if err := m.serves(report); err != nil {
		t.Error(err)
	}
	s.Tally.Count(func(r *table.Row) { r.Renewals++ })
}

// hasty gives up a proof soon, where it can't succeed.
func hasty(d *api.DesiredPlacement) { d.Proof.Timeout = durationpb.New(3 * time.Second) }

// patient lets the next attempt begin, and take its time: rotunda resume.
func (m *Member) patient(d *api.DesiredPlacement) {
	d.Attempt++
	d.Proof.Timeout = durationpb.New(m.patience)
}

func inTrouble(r *api.PlacementReport) bool {
	return r.GetState() == api.State_STATE_FAILED
}

func (s *Subject) away(t *testing.T, outage func()) {
	t.Helper()
	if err := s.held(outage); err != nil {
		t.Fatal(err)
	}
}

// held holds clients until an outage is over.
func (s *Subject) held(outage func()) error {
	return s.Load.Away(func() error {
		outage()
		if s.Whole == nil {
			return nil
		}
		return s.Whole()
	})
}
