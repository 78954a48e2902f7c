package targettest

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// MemcachedOptions is how a memcached is to run. The zero value is one that
// demands client certificates.
type MemcachedOptions struct {
	// Name of the target. Empty: "memcached".
	Name string
	// VerifyMode is ssl_verify_mode: 0 none, 1 request, 2 require. Empty: 2.
	VerifyMode string
	// Arguments are further ones of its command line.
	Arguments []string
}

// MemcachedAccount is the account that memcached runs as in tests.
func MemcachedAccount() string { return AccountOf("memcache") }

// Memcached runs a memcached that serves what the delivery holds. Its control
// path is a second listener without TLS.
func Memcached(t testing.TB, d *Delivery, opts MemcachedOptions) *Server {
	t.Helper()
	name := orDefault(opts.Name, "memcached")
	dir, port, plain := Dir(t, name+"-"), Port(t), Port(t)
	s := &Server{
		Dir: dir, Account: MemcachedAccount(), t: t,
		argv: append([]string{
			Binary(t, "memcached"), "-m", "16", "-t", "2", "-p", strconv.Itoa(port), "-U", "0",
			"-l", Loopback(port), "-l", "notls:" + Loopback(plain),
			"-Z", "-o", "ssl_chain_cert=" + d.File("chain.pem"), "-o", "ssl_key=" + d.File("key.pem"),
			"-o", "ssl_ca_cert=" + d.File("bundle.pem"), "-o", fmt.Sprintf("ssl_verify_mode=%s", orDefault(opts.VerifyMode, "2")),
		}, opts.Arguments...),
		Target: kindOf(t, fleet.TargetMemcached, target.Target{
			Name: name, Directory: d.Dir, Address: Loopback(port), Control: &target.Control{Address: Loopback(plain)},
		}),
	}
	s.foreign = func(ctx context.Context) error {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", Loopback(plain))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	s.Start()
	return s
}

// PlainMemcached runs a memcached without TLS, as one finds it where something
// else was expected. Its only listener is its control path.
func PlainMemcached(t testing.TB) *Server {
	t.Helper()
	dir, port := Dir(t, "memcached-plain-"), Port(t)
	s := &Server{
		Dir: dir, Account: MemcachedAccount(), t: t,
		argv: []string{Binary(t, "memcached"), "-m", "16", "-t", "1", "-p", strconv.Itoa(port), "-U", "0", "-l", Loopback(port)},
		Target: kindOf(t, fleet.TargetMemcached, target.Target{
			Name: "memcached", Directory: dir, Address: Loopback(port), Control: &target.Control{Address: Loopback(port)},
		}),
	}
	s.Start()
	return s
}

// Arguments replaces the command line, for the next start.
func (s *Server) Arguments(arguments ...string) { s.argv = append(s.argv[:1:1], arguments...) }
