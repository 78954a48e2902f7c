package target

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// What a conversation may cost, unless its caller allows for less.
const (
	plainTimeout = 10 * time.Second
	plainDying   = 100 * time.Millisecond // in which a server that ends closes all its listeners
	maxPlain     = 4 << 20                // in all: HAProxy lists each certificate that it holds
	maxPlainLine = 16 << 10
)

// conversation is one over a control path, in the plain. What answers there
// may be anything: it costs bounded memory, and ends with its context.
type conversation struct {
	t    Target
	ctx  context.Context // of this one conversation, which ends before it
	conn net.Conn
	in   *bufio.Reader
	free []func()
	// heard says that what answers has spoken as this kind of server does.
	heard bool
}

// converse opens a conversation on the control path. The caller closes it.
func (t Target) converse(ctx context.Context) (*conversation, error) {
	if t.Control.Address == "" {
		return nil, fault.New(fault.Invalid, "target %s: agent.yaml names no address of its control path", t.Name).
			WithRemedy("name it as targets.%s.address", t.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, plainTimeout)
	conn, err := t.dial(ctx)
	if err != nil {
		defer cancel()
		return nil, t.unreached(ctx, err)
	}
	// The past is a deadline that ends whatever is being read or written.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return &conversation{
		t: t, ctx: ctx, conn: conn, in: bufio.NewReaderSize(conn, maxPlainLine),
		free: []func(){func() { stop() }, cancel},
	}, nil
}

// bySocket says whether the control path is a unix socket. Whoever listens
// there was let into its directory; on a loopback port any user of the host
// can listen while the server is down.
func (c *Control) bySocket() bool { return filepath.IsAbs(c.Address) }

// dial opens the control path, for every driver and dialect.
func (t Target) dial(ctx context.Context) (net.Conn, error) {
	network := "tcp"
	if t.Control.bySocket() {
		network = "unix"
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, t.Control.Address)
	if err != nil {
		return nil, err
	}
	return &limitedConn{Conn: conn, left: maxPlain}, nil
}

var errTooMuch = errors.New("it sends without end")

// limitedConn bounds what the other side can send in one conversation: a
// driver would keep all of it.
type limitedConn struct {
	net.Conn
	left int
}

func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// secret is the password, nil where there is none. It is said to a unix socket
// alone, by dialects that would show it to whoever asks.
func (t Target) secret() ([]byte, error) {
	if t.Control.Password == nil {
		return nil, nil
	}
	if !t.Control.bySocket() {
		return nil, fault.New(fault.Invalid, "target %s: a password is not said to a port, on which any user of this host can listen while the server is down: %s", t.Name, t.Control.Address).
			WithRemedy("name the server's unix socket as targets.%s.address in agent.yaml, or remove passwordFile there", t.Name)
	}
	return t.Control.Password()
}

func (c *conversation) close() {
	for _, free := range c.free {
		free()
	}
	_ = c.conn.Close() // all that was wanted has been read
}

func (c *conversation) say(text string) error {
	if _, err := io.WriteString(c.conn, text); err != nil {
		return c.broke(err)
	}
	return nil
}

// line reads one line, without its end.
func (c *conversation) line() (string, error) {
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", c.t.stranger(line)
	}
	if err != nil {
		return "", c.broke(err)
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// rest reads until the other side hangs up.
func (c *conversation) rest() (string, error) {
	text, err := io.ReadAll(c.in)
	if err != nil {
		return "", c.broke(err)
	}
	return string(text), nil
}

// unreached is a control path that could not be opened. Where the server's TLS
// port answers all the same it is the wrong path; else it just isn't running.
func (t Target) unreached(ctx context.Context, err error) error {
	path := t.Control.Address
	info, statErr := os.Stat(path)
	switch {
	case errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM):
		return fault.New(fault.Forbidden, "target %s: user %d may not open its control path %s", t.Name, os.Geteuid(), path).
			WithRemedy("run the agent as root or as a member of the socket's group, and give the socket mode 660")
	case filepath.IsAbs(path) && statErr == nil && info.Mode().Type() != fs.ModeSocket:
		return fault.New(fault.Invalid, "target %s: its control path %s is no socket", t.Name, path).
			WithRemedy("name the server's own socket as targets.%s.address in agent.yaml", t.Name)
	case (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)) && t.stays(ctx):
		return fault.New(fault.Invalid, "target %s: nobody listens at its control path %s, though something listens at %s", t.Name, path, t.Address).
			WithRemedy("name the server's own control path as targets.%s.address in agent.yaml", t.Name)
	}
	return fault.Wrap(fault.Unavailable, err, "target %s is not running: its control path %s", t.Name, path).
		WithRemedy("start it; if it does run, mend targets.%s.address in agent.yaml", t.Name)
}

// broke is a conversation that ended too soon.
func (c *conversation) broke(err error) error {
	path := c.t.Control.Address
	switch {
	case errors.Is(err, errTooMuch):
		return c.t.endless()
	case c.ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
		return fault.New(fault.Unavailable, "target %s: no answer in time at its control path %s", c.t.Name, path).
			WithRemedy("see whether it hangs; if it does not, another product listens there")
	case !c.heard && c.t.stays(c.ctx):
		return fault.Wrap(fault.Invalid, err, "target %s: what listens at its control path %s hangs up without an answer", c.t.Name, path).
			WithRemedy("name a listener without TLS, of this server, as targets.%s.address in agent.yaml", c.t.Name)
	}
	return fault.Wrap(fault.Unavailable, err, "target %s hung up at its control path %s", c.t.Name, path)
}

// endless is a server that says more than any of its kind would.
func (t Target) endless() error {
	return fault.New(fault.Invalid, "target %s: what answers at its control path %s sends more than %d MiB", t.Name, t.Control.Address, maxPlain>>20).
		WithRemedy("name this server's own control path as targets.%s.address in agent.yaml", t.Name)
}

// stays says whether something listens where the target serves, and goes on to.
// A server that is ending closes one listener after the other.
func (t Target) stays(ctx context.Context) bool {
	if !t.listens(ctx) {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(plainDying):
		return t.listens(ctx)
	}
}

// stranger is an answer that this kind of server would never give.
func (t Target) stranger(answer []byte) error {
	text := string(answer[:min(len(answer), 80)])
	who := "another product"
	for _, known := range []struct{ prefix, name string }{
		{"HTTP/", "an HTTP server"}, {"\x15\x03", "a TLS listener"}, {"INFO {", "NATS"}, {"VERSION ", "memcached"},
		{"ERROR", "something like memcached"}, {"-", "something like Redis"}, {"AMQP", "an AMQP broker"}, {"Unknown command", "something like HAProxy"},
	} {
		if strings.HasPrefix(text, known.prefix) {
			who = known.name
			break
		}
	}
	return fault.New(fault.Invalid, "target %s: %s answers at its control path %s: %q", t.Name, who, t.Control.Address, text).
		WithRemedy("name this server's own control path as targets.%s.address in agent.yaml", t.Name)
}

// placed says whether a revision is in use yet. Before the first one no server
// can name its files.
func (t Target) placed(name string) bool {
	_, err := os.Stat(t.File(name))
	return err == nil
}

// below says whether a version like 7.0.15 or 2.6.12-1+deb12u4 is older than
// major.minor. One that can't be read is.
func below(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	second := rest
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		second = rest[:end]
	}
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	if errA != nil || errB != nil {
		return true
	}
	return a < major || a == major && b < minor
}

func (t Target) tooOld(product, version, needed, why string) error {
	return fault.New(fault.Invalid, "target %s: %s %s is too old: %s came with %s", t.Name, product, version, why, needed).
		WithRemedy("upgrade it, or remove targets.%s from agent.yaml and let the intent name a reloadCommand or restartCommand", t.Name)
}

// values reads lines of NAME<separator>VALUE.
func values(text, separator string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), separator)
		if ok {
			all[name] = strings.TrimSpace(value)
		}
	}
	return all
}

// quote makes a server's text fit for an error.
func quote(text string) string { return fmt.Sprintf("%.300q", strings.TrimSpace(text)) }
