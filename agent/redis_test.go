package agent

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
)

// redisServer is a real Redis that reads a placement's files.
type redisServer struct {
	l       *lab
	id      string
	dir     string
	files   string // the placement's directory
	address string
	config  []string
	rights  string // of the agent, beside what rotations take
	process *exec.Cmd
}

const redisSecret = "s3cret"

// redis prepares a Redis for a placement; it starts once the files are there.
func (l *lab) redis(id string, config ...string) *redisServer {
	l.t.Helper()
	dir := filepath.Join(l.dir, "redis-"+id)
	check(l.t, os.MkdirAll(dir, 0o700))
	check(l.t, os.WriteFile(filepath.Join(dir, "password"), []byte(redisSecret), 0o600))
	return &redisServer{l: l, id: id, dir: dir, files: l.path(id), address: silent(l.t), config: config}
}

func (r *redisServer) start() {
	r.l.t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		r.l.t.Fatalf("redis-server is not installed: run `make deps`")
	}
	_, port, err := net.SplitHostPort(r.address)
	check(r.l.t, err)
	current := filepath.Join(r.files, "current")
	lines := append([]string{
		"bind 127.0.0.1", "port 0", "tls-port " + port, "unixsocket " + r.socket(), "unixsocketperm 700", "dir " + r.dir,
		"tls-cert-file " + current + "/chain.pem", "tls-key-file " + current + "/key.pem", "tls-ca-cert-file " + current + "/bundle.pem",
		`save ""`, "appendonly no", "user default on nopass ~* &* +@all", `user rotunda on ">` + redisSecret + `" -@all +config|set +config|get +info +cluster|info +ping ` + r.rights,
	}, r.config...)
	file := filepath.Join(r.dir, "redis.conf")
	check(r.l.t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	r.process = exec.Command(binary, file)
	check(r.l.t, r.process.Start())
	r.l.t.Cleanup(r.stop)
	waitFor(r.l.t, "redis to answer", func() bool {
		conn, err := net.Dial("unix", r.socket())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func (r *redisServer) stop() {
	if r.process == nil {
		return
	}
	_ = r.process.Process.Signal(syscall.SIGCONT)
	_ = r.process.Process.Signal(syscall.SIGTERM)
	_ = r.process.Wait() // ends as it was told
	r.process = nil
}

func (r *redisServer) socket() string { return filepath.Join(r.dir, "redis.sock") }

// named is agent.yaml with the control path, changed from a good one.
func (r *redisServer) named(changes ...func(*TargetConfig)) func(*Config) {
	return func(c *Config) {
		t := TargetConfig{Kind: "redis", Address: r.socket(), User: "rotunda", PasswordFile: filepath.Join(r.dir, "password")}
		for _, change := range changes {
			change(&t)
		}
		c.Targets = map[string]TargetConfig{r.id: t}
	}
}

// wanted asks for a proof at this Redis.
func (r *redisServer) wanted(d *api.DesiredPlacement) {
	d.Target.Kind, d.Target.Address, d.Target.ServerName, d.Target.Preamble = "redis", r.address, "orders.lab.test", "redis"
	d.Target.ClientAuth = "required"
	d.Profile.Usages = []string{"serverAuth", "clientAuth"}
	d.Proof.Level, d.Proof.Timeout.Seconds = api.Level_LEVEL_PROVEN, 3
}

func asMember(d *api.DesiredPlacement) { d.Target.Cluster, d.NeedsSlot = "orders", true }

// running is a Redis with its first certificate, proven.
func (l *lab) running(id string, changes ...func(*api.DesiredPlacement)) *redisServer {
	l.t.Helper()
	r := l.redis(id)
	l.want(id, append([]func(*api.DesiredPlacement){r.wanted}, changes...)...)
	l.run(r.named())
	l.until(id, "in place", func(report *api.PlacementReport) bool { return report.GetRevision() > 0 })
	r.start()
	l.steady(id, 1)
	return r
}

func TestRenewalOverAControlPath(t *testing.T) {
	l := newLab(t)
	r := l.running("p1")
	l.until("p1", "with its product", func(report *api.PlacementReport) bool {
		return strings.HasPrefix(report.GetProduct(), "Redis ") || strings.HasPrefix(report.GetProduct(), "redis ")
	})
	l.want("p1", renewThrough(1))
	l.steady("p1", 2)
	_ = r
}

// What an administrator has to mend is said before a certificate is asked for.
func TestFirstContact(t *testing.T) {
	cases := map[string]struct {
		change func(r *redisServer, c *TargetConfig)
		says   string
	}{
		"another kind":     {func(_ *redisServer, c *TargetConfig) { c.Kind = "memcached" }, "memcached"},
		"wrong password":   {func(r *redisServer, c *TargetConfig) { c.PasswordFile = r.file("wrong", "nonsense") }, "does not let in"},
		"no password file": {func(r *redisServer, c *TargetConfig) { c.PasswordFile = filepath.Join(r.dir, "nowhere") }, "password"},
		"no privilege":     {func(_ *redisServer, c *TargetConfig) { c.User, c.PasswordFile = "weak", "" }, "weak"},
		"another product":  {func(_ *redisServer, c *TargetConfig) { c.Address = stranger(t) }, "target p1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			other := newLab(t) // whose files let it run
			other.want("p1")
			other.run()
			other.steady("p1", 1)
			r := l.redis("p1", "user weak on nopass -@all +info")
			r.files = other.path("p1")
			r.start()
			l.want("p1", r.wanted)
			l.run(r.named(func(t *TargetConfig) { c.change(r, t) }))
			report := l.until("p1", "failed", func(report *api.PlacementReport) bool { return report.GetState() == api.State_STATE_FAILED })
			if !strings.Contains(report.GetReason(), c.says) || report.GetRevision() != 0 {
				t.Errorf("report: %v", report)
			}
			if l.requests != 0 {
				t.Errorf("%d certificates were asked for", l.requests)
			}
			if _, err := os.Stat(l.path("p1")); err == nil {
				t.Error("the directory was touched")
			}
		})
	}
}

func (r *redisServer) file(name, content string) string {
	path := filepath.Join(r.dir, name)
	check(r.l.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// stranger is a port that answers, and not as Redis does.
func stranger(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "220 mail.example ESMTP\r\n")
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// A password that is wrong from now on stops the renewal with nothing switched;
// mended, it goes on by itself.
func TestPasswordChangedMeanwhile(t *testing.T) {
	l := newLab(t)
	r := l.running("p1")
	r.file("password", "nonsense")
	l.want("p1", renewThrough(1))
	report := l.until("p1", "failed", func(report *api.PlacementReport) bool { return report.GetFailure() != nil })
	if f := report.GetFailure(); f.GetStep() != "check" || !strings.Contains(f.GetReason(), "does not let in") || report.GetGeneration() != 1 || report.GetRestores() != 0 {
		t.Errorf("report: %v", report)
	}
	r.file("password", redisSecret)
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt = 1 })
	l.steady("p1", 2)
}

// putOff fits a report that says of its check why nothing was switched.
func putOff(why string) func(*api.PlacementReport) bool {
	return func(report *api.PlacementReport) bool {
		return report.GetState() == api.State_STATE_FAILED && strings.HasPrefix(report.GetReason(), "check failed once: ") && strings.Contains(report.GetReason(), why)
	}
}

// A Redis that does not run puts its renewal off; started, it gets it.
func TestStoppedBeforeARenewal(t *testing.T) {
	l := newLab(t)
	r := l.running("p1")
	r.stop()
	l.want("p1", renewThrough(1))
	report := l.until("p1", "put off", putOff("redis"))
	if report.GetFailure() != nil || report.GetGeneration() != 1 {
		t.Errorf("report: %v", report) // a failure would hold all of its intent
	}
	r.start()
	l.pass(time.Minute)
	l.steady("p1", 2)
}

// What is about to run out is switched though nothing answers: the next start
// finds good files, and nothing was taken back.
func TestStoppedUntilUrgent(t *testing.T) {
	l := newLab(t)
	// Redis has the real clock, by which the second certificate is not valid yet
	// as a client's: that is not what is looked at here.
	r := l.running("p1", func(d *api.DesiredPlacement) { d.Target.ClientAuth = "" })
	r.stop()
	l.pass(11*time.Hour + 30*time.Minute) // of twelve
	report := l.until("p1", "switched", func(report *api.PlacementReport) bool {
		return report.GetGeneration() == 2 && report.GetFailure() != nil
	})
	if report.GetState() != api.State_STATE_FAILED || report.GetRestores() != 0 {
		t.Errorf("report: %v", report)
	}
	r.start()
	l.pass(time.Minute)
	if report := l.steady("p1", 2); report.GetRestores() != 0 {
		t.Errorf("report: %v", report)
	}
}

// A replica whose link to its master is down is not taken out further.
func TestMemberThatIsNotWell(t *testing.T) {
	l := newLab(t)
	r := l.running("p1", asMember)
	r.command("replicaof", "127.0.0.1", "1")
	l.want("p1", renewThrough(1))
	report := l.until("p1", "put off", putOff("not well"))
	if report.GetFailure() != nil || report.GetGeneration() != 1 || report.GetAsksSlot() != 0 {
		t.Errorf("report: %v", report)
	}
	r.command("replicaof", "no", "one")
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt = 1 })
	asked := l.until("p1", "asking for a slot", func(report *api.PlacementReport) bool { return report.GetAsksSlot() > 0 })
	l.want("p1", slot("s1", asked.GetAsksSlot()))
	l.steady("p1", 2)
	l.until("p1", "without its slot", func(report *api.PlacementReport) bool { return report.GetSlotId() == "" && report.GetAsksSlot() == 0 })
}

func (r *redisServer) command(words ...string) {
	r.l.t.Helper()
	output, err := exec.Command("redis-cli", append([]string{"-s", r.socket()}, words...)...).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(output), "OK") {
		r.l.t.Fatalf("redis-cli %v: %v: %s", words, err, output)
	}
}

// A server that answers late after it was proven is not unwell, however short
// its proof may be: a good rotation is not taken back for that.
func TestSlowToBeWell(t *testing.T) {
	l := newLab(t)
	stopped := false
	var r *redisServer
	l.crash = func(point string) {
		if point == "prove: observed" && stopped {
			check(t, r.process.Process.Signal(syscall.SIGSTOP))
			time.AfterFunc(1500*time.Millisecond, func() { _ = r.process.Process.Signal(syscall.SIGCONT) })
			stopped = false
		}
	}
	r = l.running("p1", asMember, func(d *api.DesiredPlacement) { d.Proof.Timeout = durationpb.New(time.Second) })
	stopped = true
	l.want("p1", renewThrough(1))
	l.want("p1", slot("s1", l.asking("p1")))
	if report := l.steady("p1", 2); report.GetRestores() != 0 || report.GetFailure() != nil {
		t.Errorf("taken back: %v", report)
	}
}

// A mistake of an administrator's must not let a certificate run out: what is
// about to is switched though the password is wrong, for the next start; mended,
// the process is told.
func TestWrongPasswordUntilUrgent(t *testing.T) {
	l := newLab(t)
	r := l.running("p1", func(d *api.DesiredPlacement) { d.Target.ClientAuth = "" })
	r.file("password", "nonsense")
	l.pass(11*time.Hour + 30*time.Minute) // of twelve
	report := l.until("p1", "delivered", func(report *api.PlacementReport) bool {
		return report.GetGeneration() == 2 && report.GetState() == api.State_STATE_FAILED && strings.Contains(report.GetReason(), "delivered all the same")
	})
	if !strings.Contains(report.GetReason(), "does not let in") || report.GetRestores() != 0 || report.GetLevel() > api.Level_LEVEL_DELIVERED {
		t.Errorf("report: %v", report)
	}
	l.pass(time.Minute) // it stays, however often it is tried
	if leaf := l.sound("p1"); leaf == nil || !leaf.NotAfter.After(l.now().Add(time.Hour)) {
		t.Errorf("in use: %v", leaf)
	}
	r.file("password", redisSecret)
	l.pass(time.Minute)
	if report := l.steady("p1", 2); report.GetRestores() != 0 {
		t.Errorf("report: %v", report)
	}
}
