package fleettest

import (
	"flag"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
)

var scenario = flag.String("scenario", "", "the fault to bring about; list: names them; empty: all")

// A scenario brings a fault about against real processes, and says what it did
// and counted. Each is bounded by counts or times of its own.
var scenarios = []struct {
	name, what string
	run        func(*testing.T, *counted)
}{
	{"kill-servers", "two servers on one PostgreSQL, one of them killed with SIGKILL again and again while both issue", killServers},
	{"kill-postgres", "the database killed with SIGKILL again and again while a server issues", killPostgres},
	{"failover", "the database killed while a server issues, its synchronous standby promoted", failover},
	{"lost-commits", "a standby promoted that had not received the last commits: agents notice, nothing is issued", lostCommits},
	{"lagging-replica", "a standby that lags is promoted: what it had received is there, what it had not is noticed by agents; nothing is issued until the store is restored", laggingReplica},
	{"partition", "a server cut off from the database without a word, while another goes on; then healed", partition},
	{"freeze", "the database stands still, though its host still answers: writes are refused after a minute, and go on with it", freeze},
	{"slow-network", "20 ms each way between a server and its database, and connections that break", slowNetwork},
	{"disk-full", "the disk of a server's store fills while it issues, and that of an agent's state before it rotates; then there is room again", diskFull},
	{"rolling-upgrade", "two servers are replaced, one after the other, by the next version and one of them by that after it, while agents are connected and certificates are issued", rollingUpgrade},
	{"clocks", "the clocks of a database, a server and an agent are hours off, ahead and back: nothing is signed by them, and all go on when they are right", clocks},
	{"namespaces", "a server and an agent in network namespaces of their own; the link between is lossy, slow, cut, and healed", namespaces},
	{"slow-disk", "each fsync of a server takes 300 ms: issuance goes on, commits get wider, what is too much is told when to come back, and the metrics show it", slowDisk},
	{"linearizable", "three servers read and write a document and take a lease while the database is killed; checked with porcupine", linearizable},
}

// counted is what a scenario did.
type counted struct {
	mu    sync.Mutex
	words []string
}

func (c *counted) add(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.words = append(c.words, fmt.Sprintf(format, args...))
}

func TestFaults(t *testing.T) {
	if *scenario == "list" {
		for _, s := range scenarios {
			fmt.Printf("%-14s %s\n", s.name, s.what)
		}
		return
	}
	ran := false
	for _, s := range scenarios {
		if *scenario != "" && *scenario != s.name {
			continue
		}
		ran = true
		t.Run(s.name, func(t *testing.T) {
			began, did := time.Now(), &counted{}
			s.run(t, did)
			fmt.Printf("%-14s %5.1fs  %s\n", s.name, time.Since(began).Seconds(), strings.Join(did.words, ", "))
		})
	}
	if !ran {
		t.Fatalf("there is no scenario %q: list names them", *scenario)
	}
}

// load asks a server for certificates from many goroutines until stop is closed.
// What is refused is asked for again, of it or of others.
func (a *asking) load(server *Plane, stop <-chan struct{}, each func()) (wait func()) {
	conn := a.dialTo(server)
	client := api.NewAgentServiceClient(conn)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for generation := a.take(); ; {
				select {
				case <-stop:
					return
				default:
				}
				if err := a.ask(client, generation); err != nil {
					a.refused.add(err)
					select { // it is away: not as fast as the processor can
					case <-stop:
					case <-time.After(20 * time.Millisecond):
					}
					continue
				}
				each()
				generation = a.take()
			}
		})
	}
	return func() { group.Wait(); conn.Close() }
}

// counter counts, and tells who waits for a number.
type counter struct {
	mu   sync.Mutex
	n    int
	next chan struct{} // closed when it counts on; nil: nobody waits
}

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}

// now returns what it has counted, and what is closed when it counts on.
func (c *counter) now() (int, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.n, c.next
}

// more waits until it has counted n more.
func (c *counter) more(t *testing.T, n int, what string) {
	t.Helper()
	from, next := c.now()
	deadline := time.After(Patience)
	for has := from; has < from+n; has, next = c.now() {
		select {
		case <-next:
		case <-deadline:
			t.Fatalf("%s: %d more within %s, %d wanted", what, has-from, Patience, n)
		}
	}
}

// onPostgres is a plane on a database that is not running, with one who asks.
func onPostgres(t *testing.T, place string) (*Plane, *asking) {
	t.Helper()
	p := NewPlaneAt(t, place)
	p.Apply(strings.ReplaceAll(documents, "TREE", t.TempDir()))
	a := p.newAsking()
	p.Stop()
	return p, a
}

// settle asks again for all that was ever asked for, and compares what was
// answered with the store.
func (a *asking) settle(server *Plane, did *counted) {
	conn := a.dialTo(server)
	defer conn.Close()
	a.askAgain(conn)
	a.checkStore()
	did.add("%d certificates, each in the store and in the log once", len(a.answers))
}

func kill(t *testing.T, process *exec.Cmd) {
	t.Helper()
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait() // killed
}

func killServers(t *testing.T, did *counted) {
	one, a := onPostgres(t, postgrestest.Run(t).Database(t))
	two := one.another()
	processes := map[*Plane]*exec.Cmd{one: one.startProcess(), two: two.startProcess()}
	counts := map[*Plane]*counter{one: {}, two: {}}
	stop := make(chan struct{})
	waitOne, waitTwo := a.load(one, stop, counts[one].add), a.load(two, stop, counts[two].add)
	const kills = 6
	for i := range kills {
		victim, other := one, two
		if i%2 == 1 {
			victim, other = two, one
		}
		counts[victim].more(t, 30, "the server that will be killed")
		kill(t, processes[victim])
		counts[other].more(t, 30, "the server that is left")
		processes[victim] = victim.startProcess()
	}
	close(stop)
	waitOne()
	waitTwo()
	did.add("%d kills", kills)
	a.settle(one, did)
}

func killPostgres(t *testing.T, did *counted) {
	db := postgrestest.Run(t, "fsync=on", "full_page_writes=on")
	p, a := onPostgres(t, db.Database(t))
	p.startProcess()
	var count counter
	stop := make(chan struct{})
	wait := a.load(p, stop, count.add)
	const kills = 5
	for range kills {
		count.more(t, 40, "before the database is killed")
		p.must(db.Kill())
		p.must(db.Restart())
	}
	count.more(t, 40, "after the last kill")
	close(stop)
	wait()
	did.add("%d kills of the database", kills)
	a.settle(p, did)
}

// both is the URL that leads to whichever of two databases takes writes.
func both(t *testing.T, url string, one, two *postgrestest.Server) string {
	t.Helper()
	return strings.Replace(url, fmt.Sprintf("127.0.0.1:%d/", one.Port), fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d/", one.Port, two.Port), 1) +
		"&target_session_attrs=read-write"
}

func failover(t *testing.T, did *counted) {
	primary := postgrestest.Run(t, "synchronous_standby_names=*")
	standby := postgrestest.RunStandby(t, primary)
	p, a := onPostgres(t, both(t, primary.Database(t), primary, standby))
	p.startProcess()
	var count counter
	stop := make(chan struct{})
	wait := a.load(p, stop, count.add)
	count.more(t, 100, "before the failover")
	p.must(primary.Kill())
	began := time.Now()
	_, err := standby.Exec(t.Context(), "SELECT pg_promote()")
	p.must(err)
	count.more(t, 1, "the first after the failover")
	did.add("issuing again %.1f s after the primary was killed", time.Since(began).Seconds())
	count.more(t, 100, "after the failover")
	close(stop)
	wait()
	a.settle(p, did)
}

func lostCommits(t *testing.T, did *counted) {
	primary := postgrestest.Run(t)
	standby := postgrestest.RunStandby(t, primary)
	p := NewPlaneAt(t, both(t, primary.Database(t), primary, standby))
	hosts := fleetOf(p, 2)
	p.Await("all hold a certificate", Steady(len(hosts), 1))
	_, err := standby.Exec(t.Context(), "SELECT pg_is_in_recovery()")
	p.must(err)
	p.must(standby.Kill()) // from here on it receives nothing
	_, err = p.Rotate(t.Context(), Operator, &api.RotateRequest{Intent: "files", Reason: "drill"})
	p.must(err)
	p.Await("all have rotated", Steady(len(hosts), 2))
	_, size := p.log()
	witnessed(p, size, hosts...)
	p.must(primary.Kill())
	p.must(standby.Restart())
	_, err = standby.Exec(t.Context(), "SELECT pg_promote()")
	p.must(err)
	words := ""
	p.await("somebody notices that commits are lost", func() bool {
		words, err = p.RolledBack(t.Context())
		return err == nil && words != ""
	})
	if _, err := p.CreateToken(t.Context(), Operator, &api.CreateTokenRequest{}); err == nil {
		t.Error("a store that lost commits makes tokens")
	}
	did.add("%s", words)
}

func partition(t *testing.T, did *counted) {
	db := postgrestest.Run(t)
	direct := db.Database(t)
	network := newProxy(t, fmt.Sprintf("127.0.0.1:%d", db.Port))
	one, a := onPostgres(t, direct)
	cut := one.another()
	parsed, err := url.Parse(direct)
	one.must(err)
	parsed.Host = network.address
	cut.Config.Store = parsed.String()
	one.startProcess()
	cut.startProcess()
	var near, far counter
	stop := make(chan struct{})
	waitNear, waitFar := a.load(one, stop, near.add), a.load(cut, stop, far.add)
	far.more(t, 30, "before it is cut off")
	near.more(t, 30, "before the other is cut off")
	network.hold()
	began := time.Now()
	near.more(t, 30, "while the other is cut off")
	did.add("the other issued on after %.1f s", time.Since(began).Seconds())
	before, _ := far.now()
	near.more(t, 300, "while the other is cut off")
	if after, _ := far.now(); after-before > 16 {
		t.Errorf("the server that is cut off issued %d", after-before)
	}
	network.heal()
	network.reset()
	far.more(t, 30, "after it is healed")
	close(stop)
	waitNear()
	waitFar()
	a.settle(one, did)
}

func slowNetwork(t *testing.T, did *counted) {
	db := postgrestest.Run(t)
	direct := db.Database(t)
	network := newProxy(t, fmt.Sprintf("127.0.0.1:%d", db.Port))
	p, a := onPostgres(t, direct)
	parsed, err := url.Parse(direct)
	p.must(err)
	parsed.Host = network.address
	p.Config.Store = parsed.String()
	network.slow(20 * time.Millisecond)
	p.startProcess()
	var count counter
	stop := make(chan struct{})
	wait := a.load(p, stop, count.add)
	broken := 0
	for range 4 {
		count.more(t, 10, "over a slow network")
		broken += network.reset()
	}
	count.more(t, 10, "after the last break")
	close(stop)
	wait()
	network.slow(0)
	did.add("%d connections broken", broken)
	p.Config.Store = direct
	a.settle(p, did)
}

func freeze(t *testing.T, did *counted) {
	server := postgrestest.Run(t)
	p := NewPlaneAt(t, server.Database(t))
	p.must(server.Freeze())
	began := time.Now()
	_, err := p.CreateToken(t.Context(), Operator, &api.CreateTokenRequest{})
	if fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("while it stands still: %v", err)
	}
	did.add("refused after %.0f s", time.Since(began).Seconds())
	p.must(server.Thaw())
	began = time.Now()
	p.await("it goes on", func() bool {
		_, err := p.CreateToken(t.Context(), Operator, &api.CreateTokenRequest{})
		return err == nil
	})
	did.add("went on %.1f s after it was thawed", time.Since(began).Seconds())
}
