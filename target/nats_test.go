package target_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

func natsStand(t *testing.T, opts targettest.NATSOptions) *stand {
	t.Helper()
	return newStand(t, fleet.TargetNATS, targettest.NATSAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.NATS(t, d, opts)
	})
}

func TestNATSTakesWhatItsRowSays(t *testing.T) {
	s := natsStand(t, targettest.NATSOptions{})
	s.contacts("nats 2.9.10")
	s.renews(fleet.Loaded)
	s.changesAnchors(fleet.Loaded)
	if said, err := s.adapter.Says(t.Context(), targettest.Host(nil), s.Target); err != nil || !strings.HasPrefix(said, "configuration of 20") {
		t.Errorf("%q, %v", said, err)
	}
}

func TestNATSKeepsTheOldPair(t *testing.T) {
	s := natsStand(t, targettest.NATSOptions{})
	before := s.breaks()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := s.adapter.Load(ctx, targettest.Host(nil), target.Act{Kind: target.ActReload, Target: s.Target, Change: target.Change{Leaf: true}})
	s.fails("a broken pair", err, fault.Invalid, "refused the reload", "its log says why")
	s.serves(before)
	s.deliver(s.a.Issue(t, targettest.Order{}), s.a.Root)
	s.loads(target.Change{Leaf: true}, fleet.Loaded)
	s.serves(s.leaf)
}

func TestNATSAstray(t *testing.T) {
	s := natsStand(t, targettest.NATSOptions{})
	s.wrongPIDFiles()
	other := natsStand(t, targettest.NATSOptions{Name: "other"})
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"server_id":1}`) }))
	defer page.Close()
	monitor := func(address string) target.Target {
		return s.without(func(c *target.Control) { c.Address = address })
	}
	s.unreachable(monitor(page.Listener.Addr().String()), fault.Invalid, "no monitoring port of a NATS", "targets.nats.address")
	s.unreachable(monitor(s.Target.Address), fault.Invalid, "ask NATS nats", "targets.nats.address") // its own TLS port, which says INFO
	s.unreachable(monitor("127.0.0.1:1"), fault.Invalid, "which runs", "give its configuration the line http: 127.0.0.1:1")

	// The monitoring port of one and the process of another.
	s.deliver(s.a.Issue(t, targettest.Order{}), s.a.Root)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := s.adapter.Load(ctx, targettest.Host(nil), target.Act{Kind: target.ActReload, Target: monitor(other.Target.Control.Address), Change: target.Change{Leaf: true}})
	s.fails("two servers", err, fault.Invalid, "is not the process of pid file")

	s.frozen(fleet.Loaded)
	s.away()
}

// TestNATSUnmonitored has its pid file alone.
func TestNATSUnmonitored(t *testing.T) {
	s := natsStand(t, targettest.NATSOptions{Unmonitored: true})
	s.late = true
	s.contacts("nats")
	s.deliver(s.a.Issue(t, targettest.Order{}), s.a.Root)
	s.loads(target.Change{Leaf: true}, fleet.Delivered)
	s.serves(s.leaf)
	if said, err := s.adapter.Says(t.Context(), targettest.Host(nil), s.Target); err != nil || said != "" {
		t.Errorf("%q, %v", said, err)
	}
	s.frozen(fleet.Delivered)
	s.away()
}

// TestNATSInThePlain takes clients without TLS, which nothing can prove.
func TestNATSInThePlain(t *testing.T) {
	s := natsStand(t, targettest.NATSOptions{})
	plain := targettest.NATS(t, s.Delivery, targettest.NATSOptions{Name: "plain", Config: []string{"allow_non_tls: true"}})
	_, err := s.adapter.Contact(t.Context(), targettest.Host(nil), plain.Target)
	s.fails("contact", err, fault.Invalid, "does not demand TLS", "allow_non_tls")
}

// TestNATSWithoutALeader is one of a cluster that never was: its port answers,
// and JetStream has nobody to lead it.
func TestNATSWithoutALeader(t *testing.T) {
	monitor := targettest.Loopback(targettest.Port(t))
	store := targettest.Dir(t, "jetstream-")
	targettest.Own(t, store, targettest.NATSAccount())
	s := natsStand(t, targettest.NATSOptions{Unmonitored: true, Config: []string{
		"http: " + monitor, "server_name: n1", fmt.Sprintf("jetstream { store_dir: %q }", store),
		"cluster { name: c1, listen: " + targettest.Loopback(targettest.Port(t)) + `, routes: ["nats://127.0.0.1:1"] }`,
	}})
	at := s.without(func(c *target.Control) { c.Address = monitor })
	s.fails("health", s.adapter.Health(t.Context(), targettest.Host(nil), at, s.spec()), fault.Unavailable, "503", "JetStream")
}
