package fleettest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

// expand is what the next version changes: more, which this one need not know.
const expand = `-- +goose Up
CREATE TABLE later (id TEXT PRIMARY KEY, at BIGINT NOT NULL);
ALTER TABLE placement ADD COLUMN later TEXT;
UPDATE store_meta SET schema_version = %d;`

// contract is what the version after that does: the next one can live with it,
// this one can't.
const contract = `-- +goose Up
UPDATE store_meta SET schema_version = %d, min_server_schema = %d;`

// version is this source with migrations after its own.
func version(t *testing.T, after ...string) string {
	t.Helper()
	dir := t.TempDir()
	home, err := filepath.Abs("../store/migrations")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(home, "migrations.go"))
	if err != nil {
		t.Fatal(err)
	}
	was, is := fmt.Sprintf("const Schema = %d\n", migrations.Schema), fmt.Sprintf("const Schema = %d\n", migrations.Schema+len(after))
	replaced := map[string]string{}
	replace := func(name, content string) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		replaced[filepath.Join(home, name)] = path
	}
	if len(after) > 0 {
		replace("migrations.go", strings.Replace(string(source), was, is, 1))
	}
	for i, text := range after {
		replace(fmt.Sprintf("%05d_later.sql", migrations.Schema+i+1), text)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return build(t, "-overlay", path)
}

func rollingUpgrade(t *testing.T, did *counted) {
	expanded := fmt.Sprintf(expand, migrations.Schema+1)
	contracted := fmt.Sprintf(contract, migrations.Schema+2, migrations.Schema+1)
	var now, next, afterNext string
	var group sync.WaitGroup
	group.Go(func() { now = version(t) })
	group.Go(func() { next = version(t, expanded) })
	group.Go(func() { afterNext = version(t, expanded, contracted) })
	group.Wait()

	u := newUpgrade(t, now)
	u.replace(u.one, u.two, next)
	u.replace(u.two, u.one, next)
	u.rotate("by servers of the next version")
	u.olderServes(now)
	u.stopLoad()
	u.asking.settle(u.one, did)
	u.startLoad()
	u.replace(u.two, u.one, afterNext)
	u.olderIsRefused(now)
	u.stopLoad()
	conn := u.asking.dialTo(u.one)
	u.asking.askAgain(conn)
	conn.Close()
	did.add("two servers went from schema %d to %d and one to %d under %d certificates; %d calls were to be made again, each had its answer",
		migrations.Schema, migrations.Schema+1, migrations.Schema+2, len(u.asking.answers), u.asking.refused.n)
	did.add("%d rotations of two agents, a server of schema %d served beside %d and was refused beside %d",
		u.generation, migrations.Schema, migrations.Schema+1, migrations.Schema+2)
}

// upgrade is two servers that are replaced, a third that nobody comes to, two
// agents, and who asks for certificates all the while.
type upgrade struct {
	t          *testing.T
	one, two   *Plane
	left       *Plane // of this version to the end, in this process
	asking     *asking
	processes  map[*Plane]*program
	counts     map[*Plane]*counter
	generation uint64 // that the agents have come to
	stopLoad   func()
}

func newUpgrade(t *testing.T, binary string) *upgrade {
	one, a := onPostgres(t, postgrestest.Run(t).Database(t))
	u := &upgrade{t: t, one: one, two: one.another(), left: one.Another(), asking: a}
	u.processes = map[*Plane]*program{u.one: u.one.serve(binary), u.two: u.two.serve(binary)}
	u.counts = map[*Plane]*counter{u.one: {}, u.two: {}}
	var hosts []*Host
	for _, name := range []string{"h0", "h1"} {
		host := u.left.NewHost(map[string]string{"role": "files", "host": name})
		host.Config.Servers = []agent.ServerAddress{{Address: u.one.Config.Listen.Agents}, {Address: u.two.Config.Listen.Agents}}
		hosts = append(hosts, host)
	}
	declare(u.left, hosts...)
	for _, host := range hosts {
		host.launch(binary).awaitReady()
	}
	u.steady("first issuance")
	u.startLoad()
	return u
}

func (u *upgrade) startLoad() {
	stop := make(chan struct{})
	calmly := func(server *Plane) func() {
		return func() {
			u.counts[server].add()
			time.Sleep(50 * time.Millisecond) // the processor is for what is replaced
		}
	}
	waitOne, waitTwo := u.asking.load(u.one, stop, calmly(u.one)), u.asking.load(u.two, stop, calmly(u.two))
	u.stopLoad = func() {
		close(stop)
		waitOne()
		waitTwo()
		for words, n := range u.asking.refused.words {
			if !strings.Contains(words, "code = Unavailable") {
				u.t.Errorf("%d calls failed for good: %s", n, words)
			}
		}
	}
}

// steady waits until both agents have the next generation in place.
func (u *upgrade) steady(what string) {
	u.generation++
	u.left.Await(what, func(placements []*api.PlacementStatus) bool {
		n := 0
		for _, one := range placements {
			if one.State == api.State_STATE_STEADY && one.Generation >= u.generation {
				n++
			}
		}
		return n == 2
	})
}

func (u *upgrade) rotate(what string) {
	u.left.must1(u.left.Rotate(u.t.Context(), Operator, &api.RotateRequest{Intent: "files", Reason: "drill"}))
	u.steady(what)
}

// replace stops a server and starts another binary in its place, while the other
// serves on.
func (u *upgrade) replace(server, other *Plane, binary string) {
	u.counts[server].more(u.t, 30, "the server that is to be replaced")
	u.processes[server].stop()
	u.counts[other].more(u.t, 30, "the server that is left")
	if u.generation < 3 {
		u.rotate("by the server that is left")
	}
	u.processes[server] = server.serve(binary)
	u.counts[server].more(u.t, 30, "the server that was replaced")
	u.counts[other].more(u.t, 30, "the other, beside one of another version")
}

// olderServes starts one more server of the older version.
func (u *upgrade) olderServes(binary string) {
	older := u.one.another()
	process := older.serve(binary)
	conn := u.asking.dialTo(older)
	defer conn.Close()
	if err := u.asking.ask(api.NewAgentServiceClient(conn), u.asking.take()); err != nil {
		u.t.Errorf("a server of the version before: %v", err)
	}
	process.stop()
}

// olderIsRefused: neither does a server that is two versions behind start, nor does
// one that was left running change anything.
func (u *upgrade) olderIsRefused(binary string) {
	says := refusal{fmt.Sprintf("wants servers of schema %d or above; this one has %d", migrations.Schema+1, migrations.Schema), "start a newer rotunda"}
	process := u.one.another().launch(binary)
	select {
	case <-process.ended:
		if !says.in(process.log.text()) || process.cmd.ProcessState.Success() {
			u.t.Errorf("a server two versions behind: %s, %s", process.cmd.ProcessState, process.log.text())
		}
	case <-process.log.ready:
		u.t.Error("a server two versions behind is started")
	case <-time.After(Patience):
		u.t.Error("a server two versions behind does not end")
	}
	_, err := u.left.Rotate(u.t.Context(), Operator, &api.RotateRequest{Intent: "files", Reason: "drill"})
	if err == nil || !says.in(err.Error()) {
		u.t.Errorf("a server that was left two versions behind: %v", err)
	}
}
