package fleettest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/agent"
)

// namespace is a network of its own with one device, whose packets the test
// carries.
type namespace struct {
	net *os.File // holds the namespace
	tun *os.File
}

// newNamespace makes one in which the device has an address.
func newNamespace(t *testing.T, address string) (*namespace, error) {
	made, failed := make(chan *namespace, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with the goroutine
		n, err := unshared(address)
		if err != nil {
			failed <- err
			return
		}
		made <- n
	}()
	select {
	case err := <-failed:
		return nil, err
	case n := <-made:
		t.Cleanup(func() { n.tun.Close(); n.net.Close() })
		return n, nil
	}
}

func unshared(address string) (*namespace, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	held, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq("wire0")
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, fmt.Errorf("make a device: %w", err)
	}
	for _, words := range []string{"link set dev lo up", "addr add " + address + "/24 dev wire0", "link set dev wire0 up"} {
		if output, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ip %s: %w: %s", words, err, output)
		}
	}
	return &namespace{held, os.NewFile(uintptr(fd), "tun")}, nil
}

// within is what a command line begins with to run there.
func (n *namespace) within() []string {
	return []string{"nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), n.net.Fd())}
}

// link carries packets between two namespaces as it is told.
type link struct {
	lose            atomic.Int64 // of a thousand
	delay           atomic.Int64 // ns, of each
	carried, missed atomic.Int64
}

func (l *link) join(one, two *namespace) {
	go l.carry(one.tun, two.tun)
	go l.carry(two.tun, one.tun)
}

// carry moves packets one way until a device is closed. Those that are delayed
// keep their order.
func (l *link) carry(from, to *os.File) {
	type packet struct {
		due     time.Time
		content []byte
	}
	under := make(chan packet, 4096)
	defer close(under)
	go func() {
		for p := range under {
			time.Sleep(time.Until(p.due)) // which is what it is for
			_, _ = to.Write(p.content)    // a device that is gone loses what comes
		}
	}()
	for buffer := make([]byte, 64<<10); ; {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if rand.Int64N(1000) < l.lose.Load() {
			l.missed.Add(1)
			continue
		}
		l.carried.Add(1)
		under <- packet{time.Now().Add(time.Duration(l.delay.Load())), append([]byte(nil), buffer[:n]...)}
	}
}

func namespaces(t *testing.T, did *counted) {
	binary := build(t)
	p := NewPlane(t)
	host := p.NewHost(map[string]string{"role": "files", "host": "h0"})
	host.Config.Socket = filepath.Join(t.TempDir(), "agent.sock")
	declare(p, host)
	p.Stop()
	wire := p.apart(t, did, host)
	server := p.launchIn(wire.near, binary)
	server.awaitReady()
	running := host.launch(binary, wire.far...)
	running.awaitReady()
	current := filepath.Join(host.Tree(), "h0", "current")
	p.await("first issuance", func() bool { _, err := os.Stat(filepath.Join(current, "cert.pem")); return err == nil })

	wire.lossy()
	did.add("a rotation over a link that loses 5 %%: %s", p.rotateByHand(t, binary))
	wire.slow(100 * time.Millisecond)
	did.add("over one of 100 ms each way: %s", p.rotateByHand(t, binary))
	wire.slow(0)
	before := read(t, current)
	wire.cut()
	p.rotunda(t, binary, "rotate", "files", "--reason", "drill")
	time.Sleep(3 * time.Second) // nothing is to happen
	if after := read(t, current); after != before {
		t.Error("a rotation came over a link that is cut")
	}
	wire.heal()
	healed := time.Now()
	p.await("the rotation that was asked for meanwhile", func() bool {
		now, err := os.ReadFile(filepath.Join(current, "cert.pem"))
		return err == nil && !strings.HasPrefix(before, string(now))
	})
	did.add("cut and healed: what was asked for meanwhile came %.1f s after; %s", time.Since(healed).Seconds(), wire.count())
	running.stop()
	server.stop()
}

// wire is what is between the server and the agent.
type wire struct {
	near, far        []string // what command lines of each begin with
	cut, heal, lossy func()
	slow             func(time.Duration)
	count            func() string
}

// apart puts server and host into namespaces of their own, or a proxy between
// them where there can be none.
func (p *Plane) apart(t *testing.T, did *counted, host *Host) wire {
	t.Helper()
	one, err := newNamespace(t, "10.99.0.1")
	if err == nil {
		var two *namespace
		if two, err = newNamespace(t, "10.99.0.2"); err == nil {
			p.Config.Listen.Agents, p.Config.AgentAddress = "10.99.0.1:7443", "10.99.0.1:7443"
			host.Config.Servers = []agent.ServerAddress{{Address: p.Config.AgentAddress}}
			return between(one, two)
		}
	}
	did.add("no namespaces can be made here (%s): a proxy on loopback stands in, which loses nothing", strings.TrimSpace(err.Error()))
	network := newProxy(t, p.Config.Listen.Agents)
	host.Config.Servers = []agent.ServerAddress{{Address: network.address}}
	return wire{cut: network.hold, heal: network.heal, lossy: func() {}, slow: network.slow, count: func() string { return "by the proxy" }}
}

func between(one, two *namespace) wire {
	l := new(link)
	l.join(one, two)
	return wire{
		near: one.within(), far: two.within(),
		cut: func() { l.lose.Store(1000) }, heal: func() { l.lose.Store(0) }, lossy: func() { l.lose.Store(50) },
		slow:  func(by time.Duration) { l.lose.Store(0); l.delay.Store(int64(by)) },
		count: func() string { return fmt.Sprintf("%d packets carried, %d lost", l.carried.Load(), l.missed.Load()) },
	}
}

func (p *Plane) launchIn(within []string, binary string) *program {
	p.writeConfig()
	return launch(p.t, "server", append(append([]string(nil), within...), binary, "server", "--state", p.Dir)...)
}

// rotateByHand has an operator rotate and wait, and returns how long it took.
func (p *Plane) rotateByHand(t *testing.T, binary string) string {
	t.Helper()
	began := time.Now()
	p.rotunda(t, binary, "rotate", "files", "--reason", "drill", "--wait")
	return fmt.Sprintf("%.1f s", time.Since(began).Seconds())
}

// rotunda is a command of an operator's on the server's host.
func (p *Plane) rotunda(t *testing.T, binary string, words ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), binary, append(words, "--socket", p.Config.AdminSocket)...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("rotunda %s: %v\n%s", strings.Join(words, " "), err, output)
	}
}
