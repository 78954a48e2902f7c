package fleettest

import (
	"bufio"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/server"
)

// slowly is what a command line begins with whose fsyncs take 300 ms longer. It
// is the process itself that is started so, and the tracer beside it.
var slowly = []string{
	"strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null",
	"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_exit=300ms",
}

func slowDisk(t *testing.T, did *counted) {
	if output, err := exec.Command(slowly[0], append(slowly[1:], "true")...).CombinedOutput(); err != nil {
		did.add("no fsync can be slowed here (%v: %s): freeze has a disk that stands still, and nothing stands in for a slow one", err, strings.TrimSpace(string(output)))
		return
	}
	binary := build(t)
	p, a := onPostgres(t, filepath.Join(t.TempDir(), "rotunda.db"))
	p.Config.Limits = server.Limits{IssueAtOnce: 16, IssueWithin: fleet.Duration(500 * time.Millisecond)}
	quick := p.underLoad(t, a, p.serve(binary))
	asIs := len(a.refused.words)
	slow := p.underLoad(t, a, p.launchIn(slowly, binary))
	for words, n := range a.refused.words {
		if !(refusal{"the server has too much to do", "come back after"}).in(words) {
			t.Errorf("%d callers were told %q", n, words)
		}
	}
	if len(a.refused.words) == asIs {
		t.Error("nobody was told to come back")
	}
	if slow.each() < 300*time.Millisecond {
		t.Errorf("the metrics have %s for each commit", slow.each())
	}
	if slow.width() < 3 {
		t.Errorf("%.1f certificates in each commit of a slow disk", slow.width())
	}
	process := p.serve(binary)
	conn := a.dial()
	a.askAgain(conn)
	conn.Close()
	process.stop()
	a.checkStore()
	did.add("%.0f certificates a second in commits of %.1f and %s, slowed %.0f in commits of %.1f and %s", quick.rate(), quick.width(), quick.each().Round(time.Millisecond),
		slow.rate(), slow.width(), slow.each().Round(time.Millisecond))
	did.add("%d told when to come back, none waited in vain; %d certificates, each in the store and in the log once", a.refused.n, len(a.answers))
}

// pace is how a server did.
type pace struct {
	certificates, commits, seconds float64
	took                           time.Duration
}

func (p pace) width() float64 { return p.certificates / p.commits }
func (p pace) rate() float64  { return p.certificates / p.took.Seconds() }
func (p pace) each() time.Duration {
	return time.Duration(p.seconds / p.commits * float64(time.Second))
}

// underLoad has many ask a server, and stops it.
func (p *Plane) underLoad(t *testing.T, a *asking, process *program) pace {
	t.Helper()
	process.awaitReady()
	var count counter
	stop := make(chan struct{})
	var waits []func()
	before, began := p.pace(t), time.Now()
	for range 8 { // each is eight
		waits = append(waits, a.load(p, stop, count.add))
	}
	count.more(t, 60, "under load")
	after := p.pace(t)
	did := pace{after.certificates - before.certificates, after.commits - before.commits, after.seconds - before.seconds, time.Since(began)}
	close(stop)
	for _, wait := range waits {
		wait()
	}
	process.stop()
	return did
}

// pace reads a server's metrics.
func (p *Plane) pace(t *testing.T) pace {
	t.Helper()
	response, err := http.Get("http://" + p.Config.Listen.Metrics + "/metrics")
	p.must(err)
	defer response.Body.Close()
	found := map[string]float64{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && strings.HasPrefix(name, "rotunda_") {
			found[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return pace{certificates: found["rotunda_certificates_issued_total"], commits: found["rotunda_store_commits_total"], seconds: found["rotunda_store_commit_seconds_total"]}
}
