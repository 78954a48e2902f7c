package story

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/interop/eye"
	"github.com/rotunda-pki/rotunda/interop/lab"
	"github.com/rotunda-pki/rotunda/interop/load"
	"github.com/rotunda-pki/rotunda/interop/table"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// Recruit is what it takes to make a member of a subject.
type Recruit struct {
	Name    string
	Account string // that key files belong to
	// Timeout is how long a proof may take.
	Timeout time.Duration
	Start   func(*targettest.Delivery) *targettest.Server
	Dial    func(address string) load.Dialer
	Change  func(*api.DesiredPlacement) // of what is desired; nil: nothing
	// Together keeps clients at work while this member restarts: others of its
	// cluster serve them.
	Together bool
}

// NewSubject makes a subject without members.
func NewSubject(t testing.TB, kind fleet.TargetKind) *Subject {
	t.Helper()
	adapter, err := target.Lookup(kind)
	if err != nil {
		t.Fatal(err)
	}
	plane, err := lab.OpenPlane(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Subject{Adapter: adapter, Plane: plane, Tally: table.NewTally(string(kind)), began: time.Now()}
}

// Join makes a member: its agent delivers the first certificate, then its
// server starts with that, as on a new host.
func (s *Subject) Join(t *testing.T, r Recruit) *Member {
	t.Helper()
	host, err := lab.OpenHost(t.TempDir(), r.Name, s.Plane)
	if err != nil {
		t.Fatal(err)
	}
	dir := targettest.Dir(t, "interop-")
	m := &Member{Name: r.Name, Placement: r.Name, Host: host, subject: s, Settings: lab.Settings{Directory: dir, Account: r.Account}}
	s.deliver(t, m, r, filepath.Join(dir, r.Name))
	m.Server = r.Start(&targettest.Delivery{Dir: filepath.Join(dir, r.Name)})
	s.employ(t, m, r)
	s.Members = append(s.Members, m)
	return m
}

// deliver has the agent place the first certificate.
func (s *Subject) deliver(t *testing.T, m *Member, r Recruit, dir string) {
	t.Helper()
	if err := m.Host.Configure(m.Settings); err != nil {
		t.Fatal(err)
	}
	m.want(t, Plain(s.Adapter.Kind, target.Target{Name: r.Name, Directory: dir}, r.Account, s.Plane, r.Timeout))
	if r.Change != nil {
		m.want(t, r.Change)
	}
	if err := m.Host.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Host.Stop(); err != nil {
			t.Error(err)
		}
	})
	ctx := t.Context()
	if _, err := m.Host.Await(ctx, m.Placement, "delivered", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_STEADY && r.GetGeneration() == 1
	}); err != nil {
		t.Fatal(err)
	}
	if err := m.Host.Stop(); err != nil {
		t.Fatal(err)
	}
}

// employ gives the agent its control path, and asks for proof from now on.
func (s *Subject) employ(t *testing.T, m *Member, r Recruit) {
	t.Helper()
	at := m.Server.Target
	m.Dial = r.Dial(at.Address)
	m.Eye = eye.Eye{Address: at.Address, Preamble: at.Preamble, Certificate: s.shown}
	if at.Control != nil {
		m.Settings.Targets = map[fleet.TargetKind][]target.Target{s.Adapter.Kind: {at}}
	}
	bell, err := lab.Hang(filepath.Join(t.TempDir(), "bell"), func() error { return s.restart(m, r.Together) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bell.Close() })
	ring, err := bell.Command()
	if err != nil {
		t.Fatal(err)
	}
	m.Settings.Commands = map[string][]string{"restart": ring}
	m.Host.Look = m.witness
	m.reconfigure(t, m.Settings, func(d *api.DesiredPlacement) {
		d.Target.Name, d.Target.Address, d.Target.ServerName, d.Target.Preamble = at.Name, at.Address, at.ServerName, string(at.Preamble)
		d.Target.ClientAuth = "required"
		if len(s.Adapter.NeedsRestart()) > 0 {
			d.Target.RestartCommand = "restart"
		}
		d.Proof.Level = api.Level_LEVEL_PROVEN
	})
}

// restart is the named restart command.
func (s *Subject) restart(m *Member, together bool) error {
	s.Tally.Count(func(r *table.Row) { r.Restarts++ })
	restart := func() error { m.Server.Restart(); return nil }
	if together {
		return restart()
	}
	return s.Load.Away(restart)
}
