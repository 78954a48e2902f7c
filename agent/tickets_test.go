package agent

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// behind is a real server that was started with what the agent delivered: both
// anchors. The agent takes it over then, and proves what comes.
func (l *lab) behind(kind string, run func(*targettest.Delivery) *targettest.Server, more ...func(*api.DesiredPlacement)) (stop func()) {
	l.t.Helper()
	l.want("p1", append(more, l.bundled("a", "b"), func(d *api.DesiredPlacement) { d.Files.Formats = []string{"pem", "combined"} })...)
	stop = l.run()
	l.until("p1", "in place", func(r *api.PlacementReport) bool { return r.GetState() == api.State_STATE_STEADY })
	stop()
	s := run(&targettest.Delivery{Dir: l.path("p1")})
	named := func(c *Config) {
		control := s.Target.Control
		c.Targets = map[string]TargetConfig{"p1": {
			Kind: kind, Address: control.Address, User: control.User, PIDFile: control.PIDFile, Program: control.Program, Arguments: control.Arguments,
		}}
	}
	l.want("p1", func(d *api.DesiredPlacement) {
		d.Target.Kind, d.Target.Address, d.Target.ServerName, d.Target.ClientAuth = kind, s.Target.Address, "orders.lab.test", "required"
		d.Target.Preamble = "http"
		d.Proof.Level, d.Proof.Timeout.Seconds = api.Level_LEVEL_PROVEN, 5
	})
	return l.run(named)
}

// withdraws takes anchor b out of the bundle.
func (l *lab) withdraws(fits func(*api.PlacementReport) bool) *api.PlacementReport {
	l.t.Helper()
	l.want("p1", l.bundled("a"))
	return l.until("p1", "as it should be without the anchor", fits)
}

func stands(revision uint64) func(*api.PlacementReport) bool {
	return func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_STEADY && r.GetRevision() == revision && r.GetLevel() == api.Level_LEVEL_PROVEN
	}
}

// ticketsOf is what became of the sessions from before.
func ticketsOf(t *testing.T, l *lab, r *api.PlacementReport) string {
	t.Helper()
	var all []string
	for _, ticket := range observed(t, r).Tickets {
		word := string(ticket.Accepted)
		switch {
		case ticket.Anchor != pki.FingerprintOf(l.roots["b"].anchor.Raw).String():
			t.Errorf("a ticket under %s", ticket.Anchor)
		case ticket.NoneGiven:
			word = "none given"
		case ticket.Untaken != "":
			word = "untaken"
		}
		all = append(all, strings.TrimSpace(ticket.Protocol+" "+word))
	}
	return strings.Join(all, ", ")
}

// A real HAProxy whose ticket keys come from a file refuses a new client under a
// root that was withdrawn, and takes up its sessions: that is found, and the old
// bundle comes back. With keys of its own, which go at the reload, or without
// tickets it is proven, and the statement says which. (Without, OpenSSL still
// gives names of sessions in TLS 1.3.)
func TestHAProxyKeepsSessions(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	var lines []string
	for i := range 3 {
		lines = append(lines, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(i + 1)}, 48)))
	}
	check(t, os.WriteFile(keys, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	for name, c := range map[string]struct {
		options targettest.HAProxyOptions
		proven  string
	}{
		"keys in a file":  {options: targettest.HAProxyOptions{Sessions: true, Bind: "tls-ticket-keys " + keys}},
		"keys of its own": {targettest.HAProxyOptions{Sessions: true}, "TLS 1.3 no, TLS 1.2 no"},
		"off":             {targettest.HAProxyOptions{}, "TLS 1.3 no, TLS 1.2 none given"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.behind("haproxy", func(d *targettest.Delivery) *targettest.Server { return targettest.HAProxy(t, d, c.options) })
			if c.proven != "" {
				if got := ticketsOf(t, l, l.withdraws(stands(2))); got != c.proven {
					t.Errorf("tickets: %s", got)
				}
				return
			}
			report := l.withdraws(func(r *api.PlacementReport) bool { return r.GetFailure().GetRestored() })
			for _, text := range []string{report.GetFailure().GetReason(), report.GetReason()} {
				if !strings.Contains(text, "accepts a session that was taken at") || !strings.Contains(text, "restart it and close its sessions") {
					t.Errorf("it says: %s", text)
				}
			}
			if report.GetRevision() != 1 || report.GetBundleDigest() != l.bundle("a", "b").Digest().String() {
				t.Errorf("report: %v", report)
			}
		})
	}
}

// nginx binds sessions to its list of CAs, wherever they are kept; Redis makes
// new keys with a new list.
func TestSessionsEndWithTheAnchor(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	check(t, os.WriteFile(key, bytes.Repeat([]byte{1}, 80), 0o600))
	for name, more := range map[string][]string{"nginx": nil, "nginx, keys in a file": {"ssl_session_ticket_key " + key + ";"}} {
		l := newLab(t)
		l.behind("nginx", func(d *targettest.Delivery) *targettest.Server {
			return targettest.Nginx(t, d, targettest.NginxOptions{Sessions: true, Server: append([]string{"ssl_protocols TLSv1.2 TLSv1.3;"}, more...)})
		})
		if got := ticketsOf(t, l, l.withdraws(stands(2))); got != "TLS 1.3 no, TLS 1.2 no" {
			t.Errorf("%s: %s", name, got)
		}
	}
	l := newLab(t)
	l.running("p1", l.bundled("a", "b"))
	l.steady("p1", 1)
	if got := ticketsOf(t, l, l.withdraws(stands(2))); got != "TLS 1.3 no, TLS 1.2 no" {
		t.Errorf("Redis: %s", got)
	}
}

// An agent that was started anew between the load and the proof has no ticket,
// and says so, also after another start and with the next certificate: it never
// passes in silence. Once the anchor is back nothing is owed.
func TestNoTicketAfterRestart(t *testing.T) {
	l := newLab(t)
	r := l.redis("p1")
	l.want("p1", r.wanted, l.bundled("a", "b"))
	stop := l.run(r.named())
	l.until("p1", "in place", func(report *api.PlacementReport) bool { return report.GetRevision() > 0 })
	r.start()
	l.steady("p1", 1)
	stop()
	l.crash = func(point string) {
		if point == "activate: recorded" { // the worker holds it; this is all of a ticket that there is
			l.executor.placements["p1"].tickets = nil
		}
	}
	stop = l.run(r.named())
	report := l.withdraws(stands(2))
	for range 2 {
		if got := ticketsOf(t, l, report); got != "untaken" || !strings.Contains(report.GetReason(), "no ticket was taken") || !strings.Contains(report.GetReason(), "rotate its ticket keys") {
			t.Errorf("tickets: %s; it says: %s", got, report.GetReason())
		}
		stop()
		stop = l.run(r.named())
		l.want("p1", renewThrough(1))
		report = l.until("p1", "with the next certificate", stands(3))
	}
	l.want("p1", l.bundled("a", "b"))
	report = l.until("p1", "with the anchor", stands(4))
	if got := ticketsOf(t, l, report); got != "" || strings.Contains(report.GetReason(), "ticket") || len(l.recorded("p1").Sessions) > 0 {
		t.Errorf("tickets: %s; it says: %s", got, report.GetReason())
	}
}
