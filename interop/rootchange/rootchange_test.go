package rootchange

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/interop/load"
)

// row is what one story counted.
type row struct {
	story            string
	took             time.Duration
	phases           []string
	requests, failed int64
	reconnects       int64
	links            int // replication links that were made anew, by our own count
	kills            int
}

// tally notes what the clients saw since. None of them may have been idle.
func (f *fleet) tally(r *row, before load.Counts, began time.Time) {
	for name, l := range f.loads {
		if n := l.Counts().Requests; n <= f.heard[name] {
			f.t.Errorf("%s: %s made no request", r.story, name)
		} else {
			f.heard[name] = n
		}
	}
	after := f.counted()
	r.took, r.requests, r.failed, r.reconnects = time.Since(began), after.Requests-before.Requests, after.Failed-before.Failed, after.Reconnects-before.Reconnects
}

// TestRootsAreReplaced tells the stories one after the other over one fleet,
// under one load: each begins where the one before left it.
func TestRootsAreReplaced(t *testing.T) {
	f := start(t)
	roots, rows := []string{f.path("state/root")}, []*row(nil)
	defer func() { // also where a story is cut short
		for _, r := range rows {
			fmt.Fprintf(os.Stderr, "%-32s %5.1fs %6d requests, %d failed, %d reconnects; %d links made anew; %d kills; %s\n",
				r.story, r.took.Seconds(), r.requests, r.failed, r.reconnects, r.links, r.kills, strings.Join(r.phases, " "))
		}
	}()
	for i, story := range []struct {
		name  string
		first func(f *fleet) // before the change begins
		tell  func(f *fleet, id string, r *row)
	}{
		{"replaced", nil, (*fleet).replaced},
		{"replaced again", nil, (*fleet).replaced},
		{"processes killed at each phase", nil, (*fleet).killed},
		{"one agent away, one server deaf", (*fleet).hinder, (*fleet).heldUp},
		{"one server lies", (*fleet).lie, (*fleet).liar},
		{"store put back from a copy", (*fleet).freeze, (*fleet).putBack},
		{"store put back late", nil, (*fleet).putBackLate},
	} {
		if only := os.Getenv("ROOTCHANGE_STORY"); only != "" && only != story.name {
			continue
		}
		next := fmt.Sprintf("root-%d", i+2)
		old := f.shown()
		r := &row{story: story.name}
		rows = append(rows, r)
		before, began := f.counted(), time.Now()
		if story.first != nil {
			story.first(f)
		}
		id := f.rotate(roots[len(roots)-1], next)
		roots = append(roots, f.path(next))
		story.tell(f, id, r)
		f.linked()
		f.verified()
		f.under(certificate(t, filepath.Join(roots[len(roots)-1], "cert.pem")))
		f.refused(old)
		f.tally(r, before, began)
		if t.Failed() {
			break // what follows would only repeat it
		}
	}
	if len(rows) == 0 {
		t.Errorf("no story is called %q", os.Getenv("ROOTCHANGE_STORY"))
	}
}

// replaced replaces a root, and sees for itself that every replication link is
// made anew after the parties adopted the new one, after the leaves, and after
// the old one went.
func (f *fleet) replaced(id string, r *row) {
	redis, postgres := f.links()
	rung := f.rung()
	r.phases = f.follow(id, func(change) {
		f.linked()
		f.verified()
	})
	afterRedis, afterPostgres := f.links()
	r.links = afterRedis - redis + afterPostgres - postgres
	const each = 3 // after prove, reissue and withdraw
	if afterRedis-redis < each {
		f.t.Errorf("Redis' link was made anew %d times, not %d", afterRedis-redis, each)
	}
	if afterPostgres-postgres < each {
		f.t.Errorf("PostgreSQL's link was made anew %d times, not %d", afterPostgres-postgres, each)
	}
	for i, after := range f.rung() {
		r.links += int(after - rung[i])
		if after-rung[i] < 2 { // once for the new root, once without the old one
			f.t.Errorf("etcd%d was restarted %d times, not 2", i+1, after-rung[i])
		}
	}
	for _, phase := range []string{"prove", "reissue"} {
		if !slices.Contains(r.phases, phase) {
			f.t.Errorf("phase %s was not seen: %v", phase, r.phases)
		}
	}
}

// killed kills the server, or an agent, at each phase that is seen.
func (f *fleet) killed(id string, r *row) {
	r.phases = f.follow(id, func(now change) {
		if now.EndedAt != nil {
			return
		}
		for _, victim := range []string{"server", hosts[r.kills/2%len(hosts)]} {
			r.kills++
			if victim == "server" {
				f.server.kill()
				f.serve()
				continue
			}
			f.agents[victim].kill()
			if err := f.agents[victim].start(); err != nil {
				f.t.Fatal(err)
			}
		}
	})
	seen := strings.Join(r.phases, " ")
	if !strings.Contains(seen, "prove reissue") || !strings.Contains(seen, "withdraw") && !strings.Contains(seen, "refuse") {
		f.t.Errorf("the phases at which something was killed are %s", seen)
	}
}

// hinder stops an agent, and has nginx keep signals for later.
func (f *fleet) hinder() {
	f.agents["h2"].kill()
	f.freeze()
}

// heldUp lets nobody hide: an agent that is away and a server that takes
// signals and does nothing hold the change, by name, until they are back.
func (f *fleet) heldUp(id string, r *row) {
	r.kills++
	f.until("the change waits for both", func() error {
		now, err := f.status(id)
		if err != nil {
			return err
		}
		text := now.waits()
		if now.Phase != "prove" || !strings.Contains(text, "pg-standby") || !strings.Contains(text, "nginx on agent") || !strings.Contains(text, "its agent is not connected") {
			return fmt.Errorf("at %s it waits for %s", now.Phase, text)
		}
		return nil
	})
	if text := f.rotunda("trust", "status", id); !strings.Contains(text, "bring the agent back") {
		f.t.Errorf("no remedy is named:\n%s", text)
	}
	if err := f.agents["h2"].start(); err != nil {
		f.t.Fatal(err)
	}
	f.until("it waits for nginx alone", func() error {
		now, err := f.status(id)
		if err != nil {
			return err
		}
		if now.Phase != "prove" || strings.Contains(now.waits(), "pg-standby") || !strings.Contains(now.waits(), "nginx on agent") {
			return fmt.Errorf("at %s it waits for %s", now.Phase, now.waits())
		}
		return nil
	})
	if err := syscall.Kill(f.nginx.PID(), syscall.SIGCONT); err != nil {
		f.t.Fatal(err)
	}
	r.phases = f.follow(id, nil)
}

// stored are the files of the server's store.
var stored = []string{"rotunda.db", "rotunda.db-wal", "rotunda.db-shm"}

// exchange copies the store while no server runs on it.
func (f *fleet) exchange(r *row, from, to string) {
	f.t.Helper()
	f.server.kill()
	r.kills++
	for _, name := range stored {
		f.copy(f.path(from+name), f.path(to+name))
	}
	f.serve()
}

// putBack copies the store as the change begins, lets all but a frozen nginx
// adopt the new root, and puts the copy back, which knows of none of that.
// Restored, it goes on to its end by what hosts show.
func (f *fleet) putBack(id string, r *row) {
	f.exchange(r, "state/", "copy-")
	f.until("all but nginx have adopted it", func() error {
		now, err := f.status(id)
		if err != nil {
			return err
		}
		if now.Phase != "prove" || len(now.Waits) != 1 || !strings.Contains(now.waits(), "nginx on agent") {
			return fmt.Errorf("at %s it waits for %s", now.Phase, now.waits())
		}
		return nil
	})
	f.witnessed()
	f.exchange(r, "copy-", "state/")
	f.restored()
	if err := syscall.Kill(f.nginx.PID(), syscall.SIGCONT); err != nil {
		f.t.Fatal(err)
	}
	r.phases = f.follow(id, nil)
}

// freeze has nginx keep signals for later.
func (f *fleet) freeze() {
	if err := syscall.Kill(f.nginx.PID(), syscall.SIGSTOP); err != nil {
		f.t.Fatal(err)
	}
}

// copy copies a file; one that is not there is not there afterwards either.
func (f *fleet) copy(from, to string) {
	text, err := os.ReadFile(from)
	if os.IsNotExist(err) {
		_ = os.Remove(to)
		return
	}
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}
