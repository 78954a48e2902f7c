package story

import (
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/interop/lab"
	"github.com/rotunda-pki/rotunda/interop/table"
	"github.com/rotunda-pki/rotunda/target"
)

// Deaf lets a reload succeed that changes nothing: a named command that only
// says yes. The rotation must fail and be put back, whatever the command says.
func (s *Subject) Deaf(t *testing.T) {
	if s.Adapter.Leaf == target.AtHandshake {
		return // no reload that could lie
	}
	m := s.Members[0]
	m.trouble("its reload does nothing")
	hearing := m.Host.Desired(m.Placement).GetTarget()
	deaf := m.Settings
	deaf.Targets, deaf.Commands = nil, map[string][]string{"nothing": {"/bin/true"}}
	m.reconfigure(t, deaf, func(d *api.DesiredPlacement) { d.Target.ReloadCommand, d.Target.RestartCommand = "nothing", "" })

	from := m.renew(t)
	report := m.await(t, "failed and restored", func(r *api.PlacementReport) bool {
		return inTrouble(r) && r.GetFailure().GetRestored()
	})
	if report.GetFailure().GetStep() != "prove" || report.GetGeneration() != from {
		t.Errorf("%s: a reload that does nothing ends with generation %d, %s: %s", m.Name, report.GetGeneration(), report.GetFailure().GetStep(), report.GetFailure().GetReason())
	}
	if err := m.serves(report); err != nil {
		t.Error(err)
	}
	m.reconfigure(t, m.Settings, func(d *api.DesiredPlacement) { d.Target = hearing; d.Attempt++ })
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
