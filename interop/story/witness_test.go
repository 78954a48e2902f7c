package story

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/interop/eye"
	"github.com/rotunda-pki/rotunda/interop/lab"
	"github.com/rotunda-pki/rotunda/pki"
)

// TestWitnessIsNotDeceived tells the witness lies and truths about a server
// that serves what the lab issued as generation 1, and counts what it counts.
func TestWitnessIsNotDeceived(t *testing.T) {
	s := NewSubject(t, fleet.TargetNginx)
	m := &Member{Name: "m", Placement: "m", subject: s}
	var err error
	if m.Host, err = lab.OpenHost(t.TempDir(), "m", s.Plane); err != nil {
		t.Fatal(err)
	}
	for generation := uint64(1); generation <= 2; generation++ {
		certificate := issue(t, s, m, generation)
		if generation == 1 {
			m.Eye = eye.Eye{Address: serveTLS(t, certificate)}
		}
	}
	report := func(revision, generation uint64, state api.State) *api.PlacementReport {
		return &api.PlacementReport{PlacementId: "m", Revision: revision, Generation: generation, Level: api.Level_LEVEL_PROVEN, State: state}
	}
	for _, c := range []struct {
		name           string
		report         *api.PlacementReport
		proven, failed int
	}{
		{"it is so", report(1, 1, api.State_STATE_STEADY), 0, 0},
		{"not while it rotates", report(2, 2, api.State_STATE_ROTATING), 0, 0},
		{"a lie", report(2, 2, api.State_STATE_STEADY), 1, 0},
		{"the same lie once more", report(2, 2, api.State_STATE_FAILED), 1, 1},
		{"never issued", report(3, 3, api.State_STATE_STEADY), 2, 1},
	} {
		if got := m.mismatch(c.report) != ""; got != (c.report.GetGeneration() != 1) {
			t.Fatalf("%s: mismatch: %v", c.name, got)
		}
		m.believe(c.report)
		if row := s.Tally.Row(); row.FalseProven != c.proven || row.FalseFailed != c.failed {
			t.Errorf("%s: %d false proven, %d false failed; wanted %d, %d", c.name, row.FalseProven, row.FalseFailed, c.proven, c.failed)
		}
	}
	m.trouble("on purpose")
	right := report(3, 3, api.State_STATE_FAILED)
	right.Failure = &api.Failure{Step: "prove", At: timestamppb.Now()}
	m.believe(right)
	if row := s.Tally.Row(); row.FalseFailed != 1 {
		t.Error("a failure that the suite caused was counted as a false one")
	}
}

// believe is witness, for reports that nothing overtakes.
func (m *Member) believe(report *api.PlacementReport) {
	m.overtaken = func(*api.PlacementReport) bool { return false }
	m.witness([]*api.PlacementReport{report})
}

func issue(t *testing.T, s *Subject, m *Member, generation uint64) *tls.Certificate {
	t.Helper()
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := s.Plane.Sign(&api.DesiredPlacement{Identity: &api.Identity{DnsNames: []string{"localhost"}}}, &api.PlacementRequest{PlacementId: m.Placement, Generation: generation, Csr: csr})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}
}

// serveTLS serves a certificate to whoever comes.
func serveTLS(t *testing.T, certificate *tls.Certificate) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*certificate}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn)
		}
	}()
	return listener.Addr().String()
}

func answer(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = conn.Read(make([]byte, 1)) // shakes hands; the client hangs up
}
