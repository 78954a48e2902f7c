package target_test

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

func mosquittoStand(t *testing.T) *stand {
	t.Helper()
	s := newStand(t, fleet.TargetMosquitto, targettest.MosquittoAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Mosquitto(t, d, targettest.MosquittoOptions{})
	})
	s.late = true // it has no word of its own
	return s
}

// takes delivers a leaf and waits until it is served, so that all else which
// the signal brings has come too.
func (s *stand) takes(leaf *targettest.Credential) {
	s.t.Helper()
	s.loads(target.Change{Leaf: true}, fleet.Delivered)
	s.serves(leaf)
}

func TestMosquittoTakesWhatItsRowSays(t *testing.T) {
	s := mosquittoStand(t)
	s.contacts("mosquitto 2.0.11")
	for _, order := range []targettest.Order{{Key: s.leaf.Key}, {}, {}} {
		s.deliver(s.a.Issue(t, order), s.a.Root)
		s.takes(s.leaf)
	}
}

// TestMosquittoKeepsItsAnchors until a restart, whatever its file says.
func TestMosquittoKeepsItsAnchors(t *testing.T) {
	s := mosquittoStand(t)
	underA, underB := s.a.Issue(t, targettest.Order{}), s.b.Issue(t, targettest.Order{})
	s.deliver(s.a.Issue(t, targettest.Order{}), s.a.Root, s.b.Root)
	s.takes(s.leaf)
	if seen := s.look(underB); seen.Accepted != probe.Rejected {
		t.Errorf("an anchor was added without a restart: %s", seen.Accepted)
	}
	s.Restart()
	s.accepts(underB)
	s.deliver(s.a.Issue(t, targettest.Order{}), s.b.Root)
	s.takes(s.leaf)
	if seen := s.look(underA); seen.Accepted != probe.Accepted {
		t.Errorf("an anchor was removed without a restart: %s", seen.Accepted)
	}
	s.Restart()
	s.refuses(underA)
	s.accepts(underB)
}

// TestMosquittoAddsAKeyType to the one that it has: clients that know both
// are shown the old leaf until a restart.
func TestMosquittoAddsAKeyType(t *testing.T) {
	s := mosquittoStand(t)
	before := s.leaf
	s.deliver(s.a.Issue(t, targettest.Order{Key: targettest.RSAKey(t)}), s.a.Root)
	s.loads(target.Change{Leaf: true, KeyType: true}, fleet.Delivered)
	client := s.a.Issue(t, targettest.Order{}).TLS()
	for deadline := time.Now().Add(targettest.Patience); ; time.Sleep(5 * time.Millisecond) { // out of sight
		conn, err := tls.Dial("tcp", s.Target.Address, &tls.Config{
			InsecureSkipVerify: true, Certificates: []tls.Certificate{*client},
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		})
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the RSA leaf is served to nobody: %v", err)
		}
	}
	s.serves(before)
	s.Restart()
	s.serves(s.leaf)
}

// TestMosquittoTakesABrokenPair, and every new handshake fails until it is
// mended.
func TestMosquittoTakesABrokenPair(t *testing.T) {
	s := mosquittoStand(t)
	s.breaks()
	s.loads(target.Change{Leaf: true}, fleet.Delivered)
	s.sees(nil, "no handshake", func(seen probe.Observation) bool { return seen.Outcome != probe.Served })
	s.deliver(s.a.Issue(t, targettest.Order{}), s.a.Root)
	s.takes(s.leaf)
}

// TestMosquittoIsSignalledAtItsStart: its pid file is there before it listens to
// signals, and a signal then would be its end.
func TestMosquittoIsSignalledAtItsStart(t *testing.T) {
	s := mosquittoStand(t)
	for i := range 20 {
		s.Stop()
		if err := os.Remove(s.Target.Control.PIDFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		s.deliver(s.a.Issue(t, targettest.Order{Key: s.leaf.Key}), s.a.Root)
		s.Launch()
		s.writesItsPID()
		s.loads(target.Change{Leaf: true}, fleet.Delivered)
		if err := s.Await(); err != nil {
			t.Fatalf("start %d: %v\n%s", i, err, s.Log())
		}
		s.serves(s.leaf)
	}
}

// writesItsPID comes back the moment that the pid file names a process.
func (s *stand) writesItsPID() {
	s.t.Helper()
	for deadline := time.Now().Add(targettest.Patience); ; runtime.Gosched() {
		content, err := os.ReadFile(s.Target.Control.PIDFile)
		if err == nil && len(content) > 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no pid file: %v\n%s", err, s.Log())
		}
	}
}

func TestMosquittoAstray(t *testing.T) {
	s := mosquittoStand(t)
	s.wrongPIDFiles()
	_, err := s.adapter.Contact(t.Context(), targettest.Host(nil), s.without(func(c *target.Control) { c.Program = targettest.Binary(t, "nginx") }))
	s.fails("contact", err, fault.Invalid, "does not say that it is mosquitto")
	_, err = s.adapter.Contact(t.Context(), targettest.Host(nil), s.without(func(c *target.Control) { c.Program = "/none" }))
	s.fails("contact", err, fault.Invalid, "does not say that it is mosquitto", "no such file")
	s.frozen(fleet.Delivered)
	s.away()
}
