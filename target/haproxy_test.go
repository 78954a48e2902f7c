package target_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

func newHAProxy(t *testing.T, opts targettest.HAProxyOptions) *rig {
	t.Helper()
	return newRig(t, fleet.TargetHAProxy, targettest.HAProxyAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.HAProxy(t, d, opts)
	})
}

// says is HAProxy's own word, and it has to be the truth.
func (r *rig) says() {
	r.t.Helper()
	text, err := r.adapter.Says(context.Background(), targettest.Host(nil), r.s.Target)
	if serial := fmt.Sprintf("%X", r.now.Leaf.SerialNumber.Bytes()); err != nil || !strings.Contains(text, "serial "+serial+",") {
		r.t.Fatalf("it says %q (%v), and serves %s", text, err, serial)
	}
}

func TestHAProxyTakesAllLive(t *testing.T) {
	r := newHAProxy(t, targettest.HAProxyOptions{})
	seen, err := r.contact(r.s.Target)
	if err != nil || seen.Product != "haproxy" || seen.Version == "" {
		t.Fatalf("contact: %v %v", seen, err)
	}
	t.Log(seen)
	r.says()
	leaf := target.Change{Leaf: true}
	worker := r.worker()
	r.takes(leaf, r.renew(r.now.Key), r.a.Root)
	r.takes(leaf, r.renew(nil), r.a.Root)
	r.takes(target.Change{Leaf: true, KeyType: true}, r.renew(targettest.RSAKey(t)), r.a.Root)
	r.says()
	r.takes(target.Change{Leaf: true, KeyType: true}, r.renew(nil), r.a.Root)
	if r.worker() != worker {
		t.Error("a leaf took a reload")
	}
	r.trusts(r.b, false)
	r.takes(target.Change{AnchorsAdded: true}, r.now, r.a.Root, r.b.Root)
	r.trusts(r.a, true)
	r.trusts(r.b, true)
	r.takes(target.Change{Leaf: true, AnchorsRemoved: true}, r.b.Issue(t, targettest.Order{}), r.b.Root)
	r.trusts(r.b, true)
	r.trusts(r.a, false)
	r.says()
	r.s.Restart() // the files are the truth
	r.serves(r.now)
}

func (r *rig) worker() string {
	r.t.Helper()
	conn, err := net.Dial("unix", r.s.Target.Control.Address)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "show info\n"); err != nil {
		r.t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if pid, ok := strings.CutPrefix(lines.Text(), "Pid: "); ok {
			return pid
		}
	}
	r.t.Fatal("show info names no pid")
	return ""
}

// TestHAProxyLeafAfterCA: with set ssl ca-file, later commits of certificates
// said Success and served the old one, and the second of those crashed it. By
// reloads every step holds, in whichever order.
func TestHAProxyLeafAfterCA(t *testing.T) {
	r := newHAProxy(t, targettest.HAProxyOptions{})
	leaf := target.Change{Leaf: true}
	for range 2 {
		r.takes(leaf, r.renew(nil), r.a.Root)
		r.says()
		r.takes(target.Change{AnchorsAdded: true}, r.now, r.a.Root, r.b.Root)
		r.trusts(r.b, true)
		r.takes(leaf, r.renew(nil), r.a.Root, r.b.Root)
		r.says()
		r.takes(leaf, r.b.Issue(t, targettest.Order{}), r.a.Root, r.b.Root)
		r.trusts(r.a, true)
		r.takes(target.Change{AnchorsRemoved: true}, r.now, r.a.Root)
		r.trusts(r.b, false)
		r.takes(leaf, r.renew(nil), r.a.Root)
		r.says()
	}
	if strings.Contains(r.s.Log(), "signal") || strings.Contains(r.s.Log(), "Segmentation") {
		t.Errorf("it crashed:\n%s", r.s.Log())
	}
}

// TestHAProxyReloadsInARow: a master loses a signal that it takes while it is
// busy with the last one, or with its start.
func TestHAProxyReloadsInARow(t *testing.T) {
	r := newHAProxy(t, targettest.HAProxyOptions{})
	for i := range 6 {
		change, anchors := target.Change{Leaf: true, AnchorsAdded: true}, []*x509.Certificate{r.a.Root, r.b.Root}
		if i%2 == 1 {
			change, anchors = target.Change{Leaf: true, AnchorsRemoved: true}, anchors[:1]
		}
		r.now = r.renew(nil)
		r.d.Switch(r.now, anchors...)
		if loaded, err := r.load(change); err != nil || loaded.Level != fleet.Loaded {
			t.Fatalf("reload %d: %+v %v\n%s", i, loaded, err, r.s.Log())
		}
		r.says()
	}
	r.trusts(r.b, false)
	r.serves(r.now)
}

// TestHAProxyKeepsConnectionsForALeaf: the runtime API closes none.
func TestHAProxyKeepsConnectionsForALeaf(t *testing.T) {
	r := newHAProxy(t, targettest.HAProxyOptions{Verify: "none"})
	conn, err := tls.Dial("tcp", r.s.Target.Address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	ask := func() error {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return err
		}
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		return errors.Join(err, response.Body.Close())
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root)
		if err := ask(); err != nil {
			t.Fatalf("a leaf closed an open connection: %v", err)
		}
	}
	r.takes(target.Change{AnchorsAdded: true}, r.now, r.a.Root, r.b.Root)
	if err := ask(); err == nil {
		if err = ask(); err == nil {
			t.Error("a reload leaves open connections as they are: correct the row")
		}
	}
}

func TestHAProxyRefusesABrokenPair(t *testing.T) {
	r := newHAProxy(t, targettest.HAProxyOptions{})
	before := r.now
	r.breaks()
	_, err := r.load(target.Change{Leaf: true})
	fails(t, err, fault.Invalid, "refuses commit ssl cert", "inconsistencies")
	r.serves(before)
	r.d.SwitchFiles(map[string][]byte{"combined.pem": []byte("-----BEGIN CERT")})
	_, err = r.load(target.Change{Leaf: true})
	fails(t, err, fault.Invalid, "refuses set ssl cert")
	r.serves(before)

	r.breaks() // and by a reload, which the log alone tells of
	_, err = r.load(target.Change{Leaf: true, AnchorsAdded: true})
	fails(t, err, fault.Invalid, "still answers", "refused what it read", "see its log")
	r.serves(before)

	checked := r.changed(func(c *target.Control) {
		c.Program, c.Arguments = targettest.Binary(t, "haproxy"), []string{"-f", filepath.Join(r.s.Dir, "haproxy.cfg")}
	})
	act := r.adapter.Plan(checked, target.Change{AnchorsAdded: true})[0]
	_, err = r.adapter.Load(t.Context(), targettest.Host(nil), act)
	fails(t, err, fault.Invalid, "was not told to", "inconsistencies between private key and certificate")
	r.serves(before)

	r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root)
	r.s.Target = checked
	r.takes(target.Change{Leaf: true, AnchorsAdded: true}, r.renew(nil), r.a.Root, r.b.Root)
}

// TestHAProxyTransactionOfAnother: one that somebody left open is theirs to
// end, and ours that was cut short does not stand in the way.
func TestHAProxyTransactionOfAnother(t *testing.T) {
	other := filepath.Join(targettest.Dir(t, "other-"), "other.pem")
	d := targettest.NewDelivery(t, targettest.HAProxyAccount())
	a := targettest.NewAuthority(t, "other")
	d.Switch(a.Issue(t, targettest.Order{DNS: []string{"other.example"}}), a.Root)
	content, err := os.ReadFile(d.File("combined.pem"))
	if err != nil {
		t.Fatal(err)
	}
	targettest.Write(t, other, string(content), 0o600, "")
	r := newHAProxy(t, targettest.HAProxyOptions{Bind: "crt " + other})
	r.socket("set ssl cert " + other + " <<\n" + string(content))
	before := r.now
	r.d.Switch(r.renew(nil), r.a.Root)
	_, err = r.load(target.Change{Leaf: true})
	fails(t, err, fault.Invalid, "ongoing transaction", "abort ssl cert")
	r.serves(before)
	r.socket("abort ssl cert " + other)

	r.socket("set ssl cert " + r.d.File("combined.pem") + " <<\n" + string(content))
	r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root)
}

func (r *rig) socket(command string) {
	r.t.Helper()
	conn, err := net.Dial("unix", r.s.Target.Control.Address)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		r.t.Fatal(err)
	}
	if out, err := io.ReadAll(conn); err != nil || !strings.Contains(string(out), "Transaction") {
		r.t.Fatalf("%.60s: %s %v", command, out, err)
	}
}

func TestHAProxyOutages(t *testing.T) {
	r := newHAProxy(t, targettest.HAProxyOptions{})
	r.outages()
	r.s.Freeze()
	r.bounded("reload of all", func(ctx context.Context) error {
		_, err := r.loadWithin(ctx, target.Change{AnchorsAdded: true})
		return err
	})
	r.bounded("says", func(ctx context.Context) error {
		_, err := r.adapter.Says(ctx, targettest.Host(nil), r.s.Target)
		return err
	})
	r.s.Thaw()
	r.serves(r.now)
}

func TestHAProxyContactTellsWhatIsWrong(t *testing.T) {
	r := newHAProxy(t, targettest.HAProxyOptions{})
	operator := newHAProxy(t, targettest.HAProxyOptions{Level: "operator"})
	redis := targettest.PlainRedis(t, nil)
	pid := func(n int) string {
		path := filepath.Join(t.TempDir(), "pid")
		targettest.Write(t, path, strconv.Itoa(n)+"\n", 0o600, "")
		return path
	}
	worker, err := strconv.Atoi(r.worker())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*target.Control)
		code   fault.Code
		words  []string
	}{
		"a port":            {func(c *target.Control) { c.Address = httpServer(t) }, fault.Invalid, []string{"private key is not said to a port", "stats socket"}},
		"no path":           {func(c *target.Control) { c.Address = "" }, fault.Invalid, []string{"names no address"}},
		"wrong path":        {func(c *target.Control) { c.Address += ".old" }, fault.Invalid, []string{"nobody listens", "targets.haproxy.address"}},
		"no socket":         {func(c *target.Control) { c.Address = c.PIDFile }, fault.Invalid, []string{"is no socket"}},
		"Redis":             {func(c *target.Control) { c.Address = redis.Dir + "/redis.sock" }, fault.Invalid, []string{"Redis answers"}},
		"HTTP":              {func(c *target.Control) { c.Address = httpSocket(t) }, fault.Invalid, []string{"an HTTP server answers"}},
		"operator only":     {func(c *target.Control) { *c = *operator.s.Target.Control }, fault.Forbidden, []string{`level "operator"`, "level admin"}},
		"another HAProxy":   {func(c *target.Control) { c.PIDFile = operator.s.Target.Control.PIDFile }, fault.Invalid, []string{"is not the master of worker"}},
		"no pid file":       {func(c *target.Control) { c.PIDFile = "" }, fault.Invalid, []string{"targets.haproxy.pidFile", "reloadCommand"}},
		"the worker itself": {func(c *target.Control) { c.PIDFile = pid(worker) }, fault.Invalid, []string{"without a master", "-W"}},
		"another program":   {func(c *target.Control) { c.PIDFile = pid(redis.PID()) }, fault.Invalid, []string{"redis"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.contact(r.changed(c.change))
			fails(t, err, c.code, c.words...)
		})
	}
	_, err = operator.load(target.Change{Leaf: true})
	fails(t, err, fault.Forbidden, "level admin")
	r.serves(r.now)
	operator.serves(operator.now)
}

// TestHAProxyUsesAnotherFile: what it does not load can't be given to it; what
// it loads by a link of its own is the same file.
func TestHAProxyUsesAnotherFile(t *testing.T) {
	link := filepath.Join(targettest.Dir(t, "crt-"), "site one;2.pem")
	r := newRig(t, fleet.TargetHAProxy, "", func(d *targettest.Delivery) *targettest.Server {
		if err := os.Symlink(d.File("combined.pem"), link); err != nil {
			t.Fatal(err)
		}
		return targettest.HAProxy(t, d, targettest.HAProxyOptions{Certificate: `"` + link + `"`})
	})
	if _, err := r.contact(r.s.Target); err != nil {
		t.Fatal(err)
	}
	r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root)
	r.says()

	before := r.now
	elsewhere := targettest.NewDelivery(t, "")
	r.s.Target.Directory = elsewhere.Dir
	if _, err := r.contact(r.s.Target); err != nil {
		t.Errorf("before the first revision HAProxy can't use it yet: %v", err)
	}
	elsewhere.Switch(r.renew(nil), r.a.Root)
	_, err := r.contact(r.s.Target)
	fails(t, err, fault.Invalid, "does not use "+elsewhere.File("combined.pem"), "it uses "+link, "write crt ")
	for _, change := range []target.Change{{Leaf: true}, {First: true, Leaf: true}} {
		_, err = r.load(change)
		fails(t, err, fault.Invalid, "does not use")
	}
	r.serves(before)
}

// TestHAProxyByCommand: where there is no pid file, a named command reloads.
func TestHAProxyByCommand(t *testing.T) {
	r := newHAProxy(t, targettest.HAProxyOptions{})
	pidFile := r.s.Target.Control.PIDFile
	r.s.Target = r.changed(func(c *target.Control) { c.PIDFile = "" })
	r.s.Target.ReloadCommand = "reload"
	if _, err := r.contact(r.s.Target); err != nil {
		t.Fatal(err)
	}
	ran := 0
	host := targettest.Host(map[string]func(context.Context) error{"reload": func(context.Context) error {
		ran++
		return reloadByHand(pidFile)
	}})
	r.now = r.renew(nil)
	r.d.Switch(r.now, r.a.Root, r.b.Root)
	act := r.adapter.Plan(r.s.Target, target.Change{Leaf: true, AnchorsAdded: true})[0]
	loaded, err := r.adapter.Load(t.Context(), host, act)
	if err != nil || loaded.Level != fleet.Loaded || ran != 1 {
		t.Fatalf("%+v %v, ran %d times\n%s", loaded, err, ran, r.s.Log())
	}
	r.trusts(r.b, true)
	r.serves(r.now)
}

// reloadByHand signals a master, once it idles.
func reloadByHand(pidFile string) error {
	content, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	number := strings.TrimSpace(string(content))
	for deadline := time.Now().Add(targettest.Patience); ; {
		environ, err := os.ReadFile("/proc/" + number + "/environ")
		if err != nil {
			return err
		}
		status, err := os.ReadFile("/proc/" + number + "/status")
		if err != nil {
			return err
		}
		caught := regexp.MustCompile(`(?m)^SigCgt:\t[0-9a-f]{13}[89a-f]`) // SIGUSR2
		if strings.Contains(string(environ), "HAPROXY_MWORKER_WAIT_ONLY=1") && caught.Match(status) {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("the master never idles")
		}
	}
	pid, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGUSR2)
}
