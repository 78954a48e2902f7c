package target_test

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

func nginxStand(t *testing.T, opts targettest.NginxOptions) *stand {
	t.Helper()
	return newStand(t, fleet.TargetNginx, targettest.NginxAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Nginx(t, d, opts)
	})
}

func TestNginxTakesWhatItsRowSays(t *testing.T) {
	s := nginxStand(t, targettest.NginxOptions{})
	s.contacts("nginx 1.22.1")
	s.renews(fleet.Loaded)
	s.changesAnchors(fleet.Loaded)
}

// TestNginxIsNotToldOfABrokenPair: its own trial says so, and the master
// hears nothing.
func TestNginxIsNotToldOfABrokenPair(t *testing.T) {
	s := nginxStand(t, targettest.NginxOptions{})
	before := s.breaks()
	_, err := s.reload(target.Change{Leaf: true})
	s.fails("a broken pair", err, fault.Invalid, "key values mismatch", "nothing was told to reload")
	_, err = s.adapter.Contact(t.Context(), targettest.Host(nil), s.Target)
	s.fails("contact", err, fault.Invalid, "key values mismatch")
	s.serves(before)
	if strings.Contains(s.Log(), "SIGHUP") {
		t.Errorf("it was signalled:\n%s", s.Log())
	}
	s.deliver(s.a.Issue(t, targettest.Order{}), s.a.Root)
	s.loads(target.Change{Leaf: true}, fleet.Loaded)
	s.serves(s.leaf)
}

// TestNginxIsLoadedWhileOldWorkersEnd: a request that is under way keeps its
// worker, which accepts nothing more.
func TestNginxIsLoadedWhileOldWorkersEnd(t *testing.T) {
	s := nginxStand(t, targettest.NginxOptions{})
	client := s.a.Issue(t, targettest.Order{}).TLS()
	conn, err := tls.Dial("tcp", s.Target.Address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*client}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(targettest.Patience)); err != nil {
		t.Fatal(err)
	}
	// One whole request, so that it has a worker, and a part of the next.
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s.deliver(s.a.Issue(t, targettest.Order{}), s.a.Root)
	s.loads(target.Change{Leaf: true}, fleet.Loaded)
	for range 20 {
		s.serves(s.leaf)
	}
	if said, err := s.adapter.Says(t.Context(), targettest.Host(nil), s.Target); err != nil || said != "2 workers, 1 of earlier configurations shutting down" {
		t.Errorf("%q, %v", said, err)
	}
}

func TestNginxAstray(t *testing.T) {
	s := nginxStand(t, targettest.NginxOptions{})
	s.wrongPIDFiles()
	for _, c := range []struct {
		program string
		words   []string
	}{
		{"", []string{"names no program", "targets.nginx"}},
		{"/none/nginx", []string{"no such file", "mend targets.nginx.program"}},
		{"/bin/false", []string{"finds its configuration bad"}},
	} {
		s.unreachable(s.without(func(c2 *target.Control) { c2.Program = c.program }), fault.Invalid, c.words...)
	}
	master := strconv.Itoa(s.PID())
	children, err := os.ReadFile(filepath.Join("/proc", master, "task", master, "children"))
	if err != nil {
		t.Fatal(err)
	}
	pid := filepath.Join(t.TempDir(), "pid")
	targettest.Write(t, pid, strings.Fields(string(children))[0], 0o644, "")
	s.unreachable(s.without(func(c *target.Control) { c.PIDFile = pid }), fault.Invalid, "which is no master of nginx", "worker process")

	s.frozen(fleet.Loaded)
	s.away()
}

// TestNginxRunsFromAnotherConfiguration than the one that its trial reads: the
// trial goes well, and the reload does not.
func TestNginxRunsFromAnotherConfiguration(t *testing.T) {
	s := nginxStand(t, targettest.NginxOptions{})
	path := filepath.Join(s.Server.Dir, "nginx.conf")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(s.Server.Dir, "copy.conf")
	targettest.Write(t, copied, string(config), 0o600, "")
	targettest.Write(t, path, string(config)+"nonsense;\n", 0o600, "")
	at := s.without(func(c *target.Control) { c.Arguments = []string{"-p", s.Server.Dir, "-c", copied} })
	before := s.leaf
	s.deliver(s.a.Issue(t, targettest.Order{}), s.a.Root)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = s.adapter.Load(ctx, targettest.Host(nil), target.Act{Kind: target.ActReload, Target: at, Change: target.Change{Leaf: true}})
	s.fails("reload", err, fault.Unavailable, "its workers are still the old ones", "targets.nginx.arguments")
	s.serves(before)
}

// TestNginxPointsElsewhere: only links decide, not how a path is spelt.
func TestNginxPointsElsewhere(t *testing.T) {
	s := nginxStand(t, targettest.NginxOptions{})
	links := t.TempDir()
	whole, one := filepath.Join(links, "site"), filepath.Join(links, "chain.pem")
	for link, to := range map[string]string{whole: s.Delivery.Dir, one: s.File("chain.pem")} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	fixed, err := filepath.EvalSymlinks(s.File("chain.pem")) // in a revision's own directory
	if err != nil {
		t.Fatal(err)
	}
	for path, used := range map[string]bool{one: true, filepath.Join(whole, "current", "chain.pem"): true, fixed: false} {
		at := targettest.Nginx(t, s.Delivery, targettest.NginxOptions{
			Certificate: path, VerifyClient: "off",
			Server: []string{"# ssl_certificate " + s.File("chain.pem") + ";"},
		}).Target
		config, err := os.ReadFile(at.Control.Arguments[3])
		if err != nil {
			t.Fatal(err)
		}
		// Nothing else of the directory is named.
		plain := strings.NewReplacer("ssl_client_certificate", "# ssl_client_certificate").Replace(string(config))
		targettest.Write(t, at.Control.Arguments[3], plain, 0o600, "")
		_, err = s.adapter.Contact(t.Context(), targettest.Host(nil), at)
		if used && err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if !used {
			s.fails(path, err, fault.Invalid, "uses no file of "+s.File(""), "ssl_certificate "+fixed, "write ssl_certificate "+s.File("chain.pem"))
		}
	}
}
