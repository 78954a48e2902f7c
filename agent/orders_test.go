package agent

import (
	"crypto/tls"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
)

func ordering(orders ...*api.TargetOrder) func(*api.DesiredPlacement) {
	return func(d *api.DesiredPlacement) { d.Orders = orders }
}

func closing(id string) *api.TargetOrder {
	return &api.TargetOrder{Id: id, Act: api.Act_ACT_CLOSE_SESSIONS}
}

// carriedOut waits for the report of an order.
func (l *lab) carriedOut(id, order string) *api.OrderReport {
	l.t.Helper()
	var found *api.OrderReport
	l.until(id, "with order "+order+" carried out", func(r *api.PlacementReport) bool {
		i := slices.IndexFunc(r.GetOrders(), func(o *api.OrderReport) bool { return o.GetId() == order })
		if i >= 0 {
			found = r.GetOrders()[i]
		}
		return i >= 0
	})
	return found
}

// loggedIn is a client of a Redis that has been answered.
func (l *lab) loggedIn(r *redisServer) *tls.Conn {
	l.t.Helper()
	pair, err := loadPair(r.files)
	check(l.t, err)
	conn, err := tls.Dial("tcp", r.address, &tls.Config{Certificates: []tls.Certificate{*pair}, InsecureSkipVerify: true})
	check(l.t, err)
	l.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "PING\r\n")
	check(l.t, err)
	_, err = io.ReadFull(conn, make([]byte, len("+PONG\r\n")))
	check(l.t, err)
	return conn
}

// An order closes a real Redis's sessions, once, also across a restart; another
// id is another order; what is not desired any more is not reported.
func TestOrdersAreCarriedOutOnce(t *testing.T) {
	l := newLab(t)
	r := l.redis("p1")
	r.rights = "+client|kill"
	l.want("p1", r.wanted)
	stop := l.run(r.named())
	l.until("p1", "in place", func(report *api.PlacementReport) bool { return report.GetRevision() > 0 })
	r.start()
	l.steady("p1", 1)
	first := l.loggedIn(r)
	l.want("p1", ordering(closing("o-1")))
	if got := l.carriedOut("p1", "o-1"); got.GetOutcome() != api.Outcome_OUTCOME_DONE || got.GetCount() != 1 || got.GetAt() == nil || !strings.Contains(got.GetWords(), "all clients") {
		t.Errorf("%v", got)
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("a session goes on")
	}
	second := l.loggedIn(r)
	stop()
	l.run(r.named())
	if got := l.carriedOut("p1", "o-1"); got.GetCount() != 1 {
		t.Errorf("after a restart: %v", got)
	}
	l.want("p1", ordering(closing("o-1"), &api.TargetOrder{Id: "o-2", Act: api.Act_ACT_RECONNECT_LINKS}))
	if got := l.carriedOut("p1", "o-2"); got.GetOutcome() != api.Outcome_OUTCOME_DONE || got.GetWords() != "it has no links" {
		t.Errorf("%v", got)
	}
	if _, err := io.WriteString(second, "PING\r\n"); err != nil {
		t.Error("an order was carried out twice")
	}
	if _, err := second.Read(make([]byte, 1)); err != nil {
		t.Errorf("an order was carried out twice: %v", err)
	}
	l.want("p1", ordering(closing("o-3")))
	if got := l.carriedOut("p1", "o-3"); got.GetCount() != 1 {
		t.Errorf("another: %v", got)
	}
	l.until("p1", "without the old orders", func(r *api.PlacementReport) bool { return len(r.GetOrders()) == 1 })
	if got := l.recorded("p1").Orders; len(got) != 1 || got[0].ID != "o-3" {
		t.Errorf("recorded: %+v", got)
	}
}

// An order waits until what is desired with it is in use.
func TestOrdersWaitForTheBundle(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	l.run()
	l.steady("p1", 1)
	wider := l.bundle("a", "b").Digest().String()
	l.mu.Lock()
	l.gone[wider] = true
	l.mu.Unlock()
	l.want("p1", l.bundled("a", "b"), ordering(closing("o-1")))
	l.until("p1", "without its bundle", func(r *api.PlacementReport) bool {
		if len(r.GetOrders()) > 0 {
			t.Errorf("carried out before its time: %v", r)
		}
		return r.GetState() == api.State_STATE_FAILED
	})
	l.mu.Lock()
	l.gone[wider] = false
	l.mu.Unlock()
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt++ })
	got := l.carriedOut("p1", "o-1")
	if got.GetOutcome() != api.Outcome_OUTCOME_IMPOSSIBLE || !strings.Contains(got.GetWords(), "restartCommand") {
		t.Errorf("%v", got)
	}
}

// One that is held is steady with what it has, and that is not what the order
// goes with; and what waits for a restart is not in use.
func TestOrdersWaitForWhatIsInUse(t *testing.T) {
	l := newLab(t)
	l.want("held")
	l.want("pending", etcdLike)
	l.run()
	l.steady("held", 1)
	l.steady("pending", 1)
	l.want("held", l.bundled("a", "b"), ordering(closing("o-1")), func(d *api.DesiredPlacement) { d.Hold = "frozen" })
	l.want("pending", l.bundled("a", "b"), ordering(closing("o-1")))
	l.until("pending", "waiting for a restart", func(r *api.PlacementReport) bool {
		return r.GetRevision() == 2 && r.GetState() == api.State_STATE_STEADY && strings.Contains(r.GetReason(), "restart")
	})
	l.until("held", "held", func(r *api.PlacementReport) bool { return strings.Contains(r.GetReason(), "frozen") })
	early := func(id string) {
		t.Helper()
		if got := l.recorded(id).Orders; len(got) > 0 {
			t.Errorf("%s: carried out before its time: %+v", id, got)
		}
	}
	early("held")
	l.want("held", func(d *api.DesiredPlacement) { d.Hold = "" })
	l.carriedOut("held", "o-1")
	early("pending")
}

// What can't be carried out says why, and what would be needed.
func TestOrdersThatCannotBe(t *testing.T) {
	l := newLab(t)
	l.running("p1")
	for name, c := range map[string]struct {
		order *api.TargetOrder
		says  string
	}{
		"right": {closing("right"), "ACL SETUSER rotunda +client|kill"},
		"act":   {&api.TargetOrder{Id: "act", Act: 77}, "does not know act 77"},
		"der":   {&api.TargetOrder{Id: "der", Act: api.Act_ACT_CLOSE_SESSIONS, IssuerCerts: [][]byte{{1}}}, "issuer of order der"},
		"name":  {&api.TargetOrder{Id: "name", Act: api.Act_ACT_CLOSE_SESSIONS, Issuers: []string{"CN=a"}}, "names CN=a without a certificate"},
	} {
		l.want("p1", ordering(c.order))
		if got := l.carriedOut("p1", c.order.GetId()); got.GetOutcome() != api.Outcome_OUTCOME_IMPOSSIBLE || !strings.Contains(got.GetWords(), c.says) {
			t.Errorf("%s: %v", name, got)
		}
	}
	l.want("p1", ordering(closing("../../x")))
	l.until("p1", "failed", func(r *api.PlacementReport) bool { return strings.Contains(r.GetReason(), `order id "../../x"`) })
}

// Killed at each point, an order is carried out at least once, and what is said
// is what is recorded.
func TestOrdersSurviveKills(t *testing.T) {
	for n := 1; ; n++ {
		l := newLab(t)
		l.want("p1", func(d *api.DesiredPlacement) { d.Target.RestartCommand = "reload" }, ordering(closing("o-1"), closing("o-2")))
		l.crashAt(n)
		crashed := l.advanceAll()
		if reports := l.executor.Reports(); len(reports) == 1 {
			for _, o := range reports[0].GetOrders() {
				if recorded := l.recorded("p1"); !slices.ContainsFunc(recorded.Orders, func(c carried) bool { return c.ID == o.GetId() }) {
					t.Fatalf("killed at %q: order %s is reported and not recorded", crashed, o.GetId())
				}
			}
		}
		l.crash = nil
		l.advanceAll()
		reports := l.executor.Reports()
		if len(reports) != 1 || len(reports[0].GetOrders()) != 2 || len(l.recorded("p1").Orders) != 2 {
			t.Fatalf("killed at %q: %v", crashed, reports)
		}
		for _, o := range reports[0].GetOrders() {
			if o.GetOutcome() != api.Outcome_OUTCOME_DONE {
				t.Errorf("%v", o)
			}
		}
		if crashed == "" {
			break
		}
	}
}
