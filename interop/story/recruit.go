package story

import (
	"cmp"
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
	Dial    func(address string) load.Dialer
	Change  func(*api.DesiredPlacement) // of what is desired; nil: nothing
	// ClientAuth is what the server demands of clients. Empty: required.
	ClientAuth string
	// Identity wants a client's certificate beside the server's, in a placement
	// of its own: what a standby shows its primary.
	Identity bool
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

// Join makes members: their agents deliver the first certificates, then the
// servers start with those, as on new hosts.
func (s *Subject) Join(t *testing.T, start func([]*targettest.Delivery) []*targettest.Server, recruits ...Recruit) {
	t.Helper()
	var deliveries []*targettest.Delivery
	for _, r := range recruits {
		host, err := lab.OpenHost(t.TempDir(), r.Name, s.Plane)
		if err != nil {
			t.Fatal(err)
		}
		dir := targettest.Dir(t, "interop-")
		m := &Member{Name: r.Name, Placement: r.Name, Host: host, subject: s, patience: r.Timeout, Settings: lab.Settings{Directory: dir, Account: r.Account}}
		d := &targettest.Delivery{Dir: filepath.Join(dir, r.Name)}
		s.deliver(t, m, r, d.Dir)
		s.Members, deliveries = append(s.Members, m), append(deliveries, d)
	}
	for i, server := range start(deliveries) {
		s.Members[i].Server = server
		s.employ(t, s.Members[i], recruits[i])
	}
}

// One is Join for a kind that runs alone.
func (s *Subject) One(t *testing.T, start func(*targettest.Delivery) *targettest.Server, r Recruit) {
	t.Helper()
	s.Join(t, func(d []*targettest.Delivery) []*targettest.Server { return []*targettest.Server{start(d[0])} }, r)
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
	if r.Identity {
		m.Identity = r.Name + "-identity"
		identity := Plain(fleet.TargetFiles, target.Target{Name: m.Identity, Directory: filepath.Join(m.Settings.Directory, m.Identity)}, r.Account, s.Plane, r.Timeout)
		if err := m.Host.Want(m.Identity, func(d *api.DesiredPlacement) { identity(d); clientOnly(d) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Host.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Host.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, id := range m.placements() {
		if _, err := m.Host.Await(t.Context(), id, "delivered", func(r *api.PlacementReport) bool {
			return r.GetState() == api.State_STATE_STEADY && r.GetGeneration() == 1
		}); err != nil {
			t.Fatal(err)
		}
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
	m.Host.Look, m.overtaken = m.witness, m.isOvertaken
	m.reconfigure(t, m.Settings, func(d *api.DesiredPlacement) {
		d.Target.Name, d.Target.Address, d.Target.ServerName, d.Target.Preamble = at.Name, at.Address, at.ServerName, string(at.Preamble)
		d.Target.ClientAuth = cmp.Or(r.ClientAuth, "required")
		if len(s.Adapter.NeedsRestart()) > 0 {
			d.Target.RestartCommand = "restart"
		}
		d.Proof.Level = api.Level_LEVEL_PROVEN
	})
}

// clientOnly makes the desire one for a client's certificate.
func clientOnly(d *api.DesiredPlacement) {
	d.Identity = &api.Identity{CommonName: d.GetPlacementId()}
	d.Profile.Usages = []string{"clientAuth"}
}

// IdentityDir is where the identity of a member is placed.
func (m *Member) IdentityDir() string { return filepath.Join(m.Settings.Directory, m.Identity) }

// placements are the ids of what the member's agent looks after.
func (m *Member) placements() []string {
	if m.Identity == "" {
		return []string{m.Placement}
	}
	return []string{m.Identity, m.Placement}
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
