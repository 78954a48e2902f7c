package target_test

import (
	"crypto/tls"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// TestRabbitMQ has one node for all its cases: it takes seconds to start, and
// each look at it a second of CPU. It runs from the example's configuration.
func TestRabbitMQ(t *testing.T) {
	s := newStand(t, fleet.TargetRabbitMQ, targettest.RabbitMQAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.RabbitMQ(t, d, targettest.RabbitMQOptions{Whole: func(port int) string {
			return exampleOf(t, "rabbitmq/rabbitmq.conf", d, "listeners.ssl.default = 5671", "listeners.ssl.1 = "+targettest.Loopback(port))
		}})
	})
	for _, c := range []struct {
		name string
		run  func(*stand)
	}{
		{"contact", rabbitContact},
		{"depth", rabbitDepth},
		{"old protocols", rabbitOld},
		{"renewals", rabbitRenews},
		{"anchors", rabbitAnchors},
		{"bad files", rabbitBadFiles},
		{"it says ok whatever happens", rabbitSaysOK},
		{"health", rabbitHealth},
		{"orders", rabbitOrders},
		{"astray", rabbitAstray},
		{"frozen", func(s *stand) { s.frozen(fleet.Loaded) }},
		{"stopped", rabbitStopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			c.run(s)
		})
	}
}

func rabbitContact(s *stand) {
	s.contacts("rabbitmq 3.10.8")
	leaf := s.leaf.Fingerprints()[0]
	if said, err := s.adapter.Says(s.t.Context(), targettest.Host(nil), s.Target); err != nil || said != "cached leaf "+hex.EncodeToString(leaf[:]) {
		s.t.Errorf("%q, %v", said, err)
	}
}

// rabbitOld: it speaks TLS 1.1 unless its configuration says otherwise.
func rabbitOld(s *stand) {
	spec := s.spec()
	spec.MinVersion, spec.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	seen, err := probe.Handshake(s.t.Context(), spec)
	if err != nil || seen.Outcome != probe.TLSFailed {
		s.t.Errorf("offered TLS 1.1: %s %s %s (%v)", seen.Outcome, seen.Protocol, seen.Error, err)
	}
}

// rabbitRenews takes the same key, another type, and back.
func rabbitRenews(s *stand) {
	for _, order := range []targettest.Order{{Key: s.leaf.Key}, {Key: targettest.RSAKey(s.t)}, {}} {
		s.deliver(s.a.Issue(s.t, order), s.a.Root)
		s.loads(target.Change{Leaf: true}, fleet.Loaded)
		s.serves(s.leaf)
	}
}

// rabbitAnchors has a client connected all the while: what it holds on to must
// not keep an anchor alive for others.
func rabbitAnchors(s *stand) {
	client := s.a.Issue(s.t, targettest.Order{}).TLS()
	conn, err := tls.Dial("tcp", s.Target.Address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*client}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	s.changesAnchors(fleet.Loaded)
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	_, err = conn.Write([]byte("AMQP\x00\x00\x09\x01"))
	if _, readErr := conn.Read(make([]byte, 1)); err != nil || readErr != nil {
		s.t.Logf("an idle connection was ended meanwhile: %v, %v", err, readErr)
	}
}

// rabbitDepth is that of the example.
func rabbitDepth(s *stand) {
	r := newRevoker(s.t)
	s.SwitchFiles(r.files(s.t, s.leaf))
	s.loads(target.Change{AnchorsAdded: true, AnchorsRemoved: true}, fleet.Loaded)
	s.follows(r, []int{0, 1, 2}, []int{3})
}

// rabbitBadFiles tries what a node can't use. It is told so, and serves on what
// its cache holds since the last handshake.
func rabbitBadFiles(s *stand) {
	s.serves(s.leaf)
	before := s.breaks()
	good := map[string][]byte{}
	for _, name := range []string{"chain.pem", "key.pem", "bundle.pem"} {
		content, err := os.ReadFile(s.File(name))
		if err != nil {
			s.t.Fatal(err)
		}
		good[name] = content
	}
	refused := func(words string) {
		s.t.Helper()
		_, err := s.reload(target.Change{Leaf: true})
		s.fails("bad files", err, fault.Invalid, words, "was not told to")
	}
	refused("key.pem: not the key of the certificate in")
	s.serves(before)
	s.SwitchFiles(map[string][]byte{"chain.pem": good["chain.pem"][:100], "key.pem": good["key.pem"], "bundle.pem": good["bundle.pem"]})
	refused("PEM")
	s.serves(before)
	s.SwitchFiles(map[string][]byte{"chain.pem": good["chain.pem"], "key.pem": good["key.pem"], "bundle.pem": []byte("none")})
	refused("bundle.pem: no PEM block in it") // it reads this one by itself, and no handshake succeeds
	if os.Geteuid() == 0 {
		s.deliver(s.a.Issue(s.t, targettest.Order{}), s.a.Root)
		if err := os.Chown(s.File("key.pem"), 0, 0); err != nil {
			s.t.Fatal(err)
		}
		refused("key.pem: permission denied")
		s.serves(before)
	}
	s.deliver(s.a.Issue(s.t, targettest.Order{}), s.a.Root)
	s.loads(target.Change{Leaf: true}, fleet.Loaded)
	s.serves(s.leaf)
}

// rabbitSaysOK is why the pair is tried first: the bare command on a broken
// pair, and the way back.
func rabbitSaysOK(s *stand) {
	s.breaks()
	if output, err := rabbitEval(s, "ssl:clear_pem_cache()."); err != nil || strings.TrimSpace(output) != "ok" {
		s.t.Errorf("%q, %v", output, err)
	}
	if seen := s.look(nil); seen.Outcome == probe.Served {
		s.t.Errorf("a broken pair is served: %+v", seen)
	}
	s.deliver(s.a.Issue(s.t, targettest.Order{}), s.a.Root)
	s.loads(target.Change{Leaf: true}, fleet.Loaded)
	s.serves(s.leaf)
}

func rabbitEval(s *stand, expression string) (string, error) {
	control := s.Target.Control
	output, err := exec.Command(control.Program, append(control.Arguments, "eval", expression)...).CombinedOutput()
	return string(output), err
}

func rabbitHealth(s *stand) {
	if output, err := rabbitEval(s, "rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []})."); err != nil {
		s.t.Fatal(output, err)
	}
	err := s.adapter.Health(s.t.Context(), targettest.Host(nil), s.Target, s.spec())
	s.fails("health", err, fault.Unavailable, "it has an alarm", "resource_limit,memory")
}

func rabbitAstray(s *stand) {
	contact := func(at target.Target) error {
		_, err := s.adapter.Contact(s.t.Context(), targettest.Host(nil), at)
		return err
	}
	s.fails("another node", contact(s.without(func(c *target.Control) { c.Arguments[1] = "nobody@localhost" })), fault.Unavailable, "not running at all", "targets.rabbitmq.arguments")
	s.fails("another program", contact(s.without(func(c *target.Control) { c.Program = "/bin/echo" })), fault.Invalid, "does not answer as RabbitMQ")
	s.fails("a program that fails", contact(s.without(func(c *target.Control) { c.Program = "/bin/false" })), fault.Invalid, "run it by hand as user")
	s.fails("no program", contact(s.without(func(c *target.Control) { c.Program = "/none/rabbitmqctl" })), fault.Invalid, "no such file", "targets.rabbitmq.program")
	s.fails("nothing named", contact(s.without(func(c *target.Control) { c.Program = "" })), fault.Invalid, "names no program")

	elsewhere := s.Target
	elsewhere.Directory = s.t.TempDir()
	s.fails("another directory", contact(elsewhere), fault.Invalid, "no listener of RabbitMQ", s.File("chain.pem"), "ssl_options.certfile = "+elsewhere.Directory)

	// Through Debian's wrapper, which hands everything to a shell when it is
	// run by root, and refuses others.
	wrapped := s.without(func(c *target.Control) { c.Program = debianRabbit(s) })
	if os.Geteuid() != 0 {
		s.fails("as nobody", contact(wrapped), fault.Forbidden, "runAs: rabbitmq")
		return
	}
	s.fails("as root, with the cookie of the machine's", contact(wrapped), fault.Forbidden, "same Erlang cookie")
	wrapped.Control.Arguments = append(wrapped.Control.Arguments, "--erlang-cookie", "ROTUNDATEST")
	if _, err := s.adapter.Load(s.t.Context(), targettest.Host(nil), target.Act{Kind: target.ActReload, Target: wrapped, Change: target.Change{Leaf: true}}); err != nil {
		s.t.Error(err)
	}
}

// debianRabbit is the stand's rabbitmqctl, by way of the one on the PATH.
func debianRabbit(s *stand) string {
	tool, err := os.ReadFile(s.Target.Control.Program)
	if err != nil {
		s.t.Fatal(err)
	}
	environment, _, found := strings.Cut(string(tool), "exec ")
	if !found {
		s.t.Fatalf("%s", tool)
	}
	path := filepath.Join(targettest.Dir(s.t, "wrapped-"), "rabbitmqctl")
	targettest.Write(s.t, path, environment+"exec "+targettest.Binary(s.t, "rabbitmqctl")+` "$@"`+"\n", 0o755, "")
	return path
}

func rabbitStopped(s *stand) {
	if output, err := rabbitEval(s, "rabbit:stop()."); err != nil {
		s.t.Fatal(output, err)
	}
	_, err := s.adapter.Contact(s.t.Context(), targettest.Host(nil), s.Target)
	s.fails("a stopped application", err, fault.Unavailable, "though its node is up")
	s.Stop()
	_, err = s.adapter.Contact(s.t.Context(), targettest.Host(nil), s.Target)
	s.fails("a stopped node", err, fault.Unavailable, "not running at all")
	if loaded, err := s.reload(target.Change{First: true, Leaf: true}); err != nil || loaded.Level != fleet.Delivered {
		s.t.Errorf("the first files: %+v, %v", loaded, err)
	}
}
