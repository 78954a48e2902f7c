package probe

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// ground is where a real server stands: its directory, its files, its port.
type ground struct {
	t       *testing.T
	dir     string
	address string
	account *user.User // that it runs as; nil: whoever runs the tests
	log     *syncBuffer
}

// program finds a server's binary, on the PATH or where Debian has it.
func program(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		for _, try := range []string{name, "/usr/sbin/" + name} {
			if path, err := exec.LookPath(try); err == nil {
				return path
			}
		}
	}
	t.Fatalf("%s is not installed: run `make deps`", names[0])
	return ""
}

// freeAddress is an address for a process to listen on. It is outside of the
// range from which the kernel gives ports to whoever asks for any, so that
// nobody is given it before the process has it.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		if listener, err := net.Listen("tcp", address); err == nil {
			_ = listener.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// settle makes a directory with cert.pem (leaf and chain), key.pem and ca.pem
// in it, all owned by account where the tests run as root.
func settle(t *testing.T, account string, ca authority, leaf tls.Certificate) *ground {
	t.Helper()
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &ground{t: t, dir: dir, address: freeAddress(t), log: &syncBuffer{}}
	if account != "" && os.Geteuid() == 0 {
		if g.account, err = user.Lookup(account); err != nil {
			t.Fatalf("%v: run `make deps`", err)
		}
	}
	key, err := pki.EncodeKeyPEM(leaf.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	g.own(dir)
	g.write("cert.pem", pki.EncodeCertificatesPEM(leaf.Certificate...))
	g.write("key.pem", key)
	g.write("ca.pem", ca.bundle.PEM())
	return g
}

func (g *ground) own(path string) {
	g.t.Helper()
	if g.account == nil {
		return
	}
	if err := os.Chown(path, g.id(g.account.Uid), g.id(g.account.Gid)); err != nil {
		g.t.Fatal(err)
	}
}

func (g *ground) id(text string) int {
	g.t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

func (g *ground) path(name string) string { return filepath.Join(g.dir, name) }

func (g *ground) write(name string, content []byte) string {
	g.t.Helper()
	if err := os.WriteFile(g.path(name), content, 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.own(g.path(name))
	return g.path(name)
}

// configure writes a file in which DIR and PORT are put in.
func (g *ground) configure(name, text string) string {
	return g.write(name, []byte(g.fill(text)))
}

func (g *ground) fill(text string) string {
	return strings.NewReplacer("DIR", g.dir, "PORT", g.port()).Replace(text)
}

func (g *ground) port() string {
	_, port, _ := net.SplitHostPort(g.address)
	return port
}

func (g *ground) command(argv ...string) *exec.Cmd {
	for i := range argv {
		argv[i] = g.fill(argv[i])
	}
	command := exec.Command(argv[0], argv[1:]...)
	command.Dir = g.dir
	command.Stdout, command.Stderr = g.log, g.log
	if g.account != nil {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{
			Uid: uint32(g.id(g.account.Uid)), Gid: uint32(g.id(g.account.Gid)),
		}}
	}
	return command
}

// run does something that has to be done before the server starts.
func (g *ground) run(argv ...string) {
	g.t.Helper()
	if err := g.command(argv...).Run(); err != nil {
		g.t.Fatalf("%s: %v\n%s", argv[0], err, g.log)
	}
}

// start runs the server, in the foreground, until the test ends, and waits
// until it serves TLS.
func (g *ground) start(preamble Preamble, argv ...string) {
	g.t.Helper()
	g.startCommand(preamble, g.command(argv...))
}

func (g *ground) startCommand(preamble Preamble, command *exec.Cmd) {
	g.t.Helper()
	if err := command.Start(); err != nil {
		g.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = command.Wait(); close(ended) }()
	g.t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = command.Process.Kill()
			<-ended
		}
		if g.t.Failed() {
			g.t.Logf("%s said: %s", command.Path, g.log)
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		seen := shake(g.t, Spec{Address: g.address, Preamble: preamble, ReadAcceptance: true})
		if starting := strings.Contains(seen.Error, "57P03"); seen.Outcome == Served && !starting {
			return
		}
		select {
		case <-ended:
			g.t.Fatalf("%s ended:\n%s", command.Path, g.log)
		case <-tick.C:
		}
	}
	g.t.Fatalf("%s does not come up:\n%s", command.Path, g.log)
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.String()
}
