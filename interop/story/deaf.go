package story

import (
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/interop/lab"
	"github.com/rotunda-pki/rotunda/interop/table"
	"github.com/rotunda-pki/rotunda/target"
)

// Deaf lets a reload succeed that changes nothing: a named command that only
// says yes, and a control path that leads to another server. The rotation must
// fail and be put back, whatever the reload says; or better, not be begun.
func (s *Subject) Deaf(t *testing.T) {
	if s.Adapter.Leaf == target.AtHandshake {
		return // no reload that could lie
	}
	m := s.Members[0]
	deaf := m.Settings
	deaf.Targets, deaf.Commands = nil, map[string][]string{"nothing": {"/bin/true"}}
	s.unheard(t, m, "its reload does nothing", deaf, func(d *api.DesiredPlacement) {
		d.Target.ReloadCommand, d.Target.RestartCommand = "nothing", ""
	})
	if s.Second == nil {
		return
	}
	astray := m.Settings
	elsewhere := m.Server.Target
	elsewhere.Control = s.Second(t)
	astray.Targets = map[fleet.TargetKind][]target.Target{s.Adapter.Kind: {elsewhere}}
	s.unheard(t, m, "its control path leads to another server", astray, func(*api.DesiredPlacement) {})
}

func (s *Subject) unheard(t *testing.T, m *Member, what string, settings lab.Settings, change func(*api.DesiredPlacement)) {
	t.Helper()
	m.trouble(what)
	hearing := m.Host.Desired(m.Placement).GetTarget()
	m.reconfigure(t, settings, change)
	from := m.renew(t, hasty)
	report := m.await(t, "failed and restored, or refused before anything was touched", func(r *api.PlacementReport) bool {
		return inTrouble(r) && (r.GetFailure() == nil || r.GetFailure().GetRestored()) || settled(r) && r.GetGeneration() > from
	})
	if settled(report) {
		t.Fatalf("%s: %s, and generation %d is called proven", m.Name, what, report.GetGeneration())
	}
	if report.GetFailure() != nil && report.GetFailure().GetStep() != "prove" || report.GetGeneration() != from {
		t.Errorf("%s: %s, and it ends with generation %d, %s: %s", m.Name, what, report.GetGeneration(), report.GetFailure().GetStep(), report.GetFailure().GetReason())
	}
	if err := m.serves(report); err != nil {
		t.Error(err)
	}
	m.reconfigure(t, m.Settings, func(d *api.DesiredPlacement) { m.patient(d); d.Target = hearing })
	m.proven(t, from)
	m.calm()
	s.Tally.Count(func(r *table.Row) { r.Renewals++ })
}

// reconfigure stops the agent, edits its agent.yaml and what is desired, and
// starts it again.
func (m *Member) reconfigure(t *testing.T, settings lab.Settings, change func(*api.DesiredPlacement)) {
	t.Helper()
	if err := m.Host.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := m.Host.Configure(settings); err != nil {
		t.Fatal(err)
	}
	m.want(t, change)
	if err := m.Host.Start(); err != nil {
		t.Fatal(err)
	}
}
