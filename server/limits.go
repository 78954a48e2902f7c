package server

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/admission"
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Limits are how much the server takes on at once. Beyond them it refuses and
// says when to come back.
type Limits struct {
	// Connections of agents. Default: 20000; each takes some 100 KiB.
	Connections int `yaml:"connections,omitempty"`
	// Requests for certificates that are carried out at once. Default: 2048 for
	// each CPU, which is less than a second's work.
	IssueAtOnce int `yaml:"issueAtOnce,omitempty"`
	// How long one of them may wait for its turn before its agent is told to come
	// back. Default: 2s.
	IssueWithin fleet.Duration `yaml:"issueWithin,omitempty"`
	// Certificates for one agent a second in the long run, five hundred times as
	// many after a pause. Default: 200.
	IssuePerSecond int `yaml:"issuePerSecond,omitempty"`
	// Calls of one caller, but for certificates, a second, ten times as many after a pause. Default: 200.
	CallsPerSecond int `yaml:"callsPerSecond,omitempty"`
	// How long an agent may leave unread what its stream brings, before the
	// stream is ended. Default: 1m.
	ReadWithin fleet.Duration `yaml:"readWithin,omitempty"`
}

const (
	defaultConnections = 20_000
	issuePerCPU        = 2048
	defaultCalls       = 200
	defaultReadWithin  = time.Minute
	burst              = 10  // times the calls a second
	callsAtOnce        = 256 // of one caller
	issueOfOne         = 512 // requests under way of one agent, where fewer are carried out at once
	defaultIssues      = 200
	issueBurst         = 500 // times the certificates a second
	mostWaiting        = 16_384
	defaultIssueWithin = 2 * time.Second
	possiblePerCPU     = 5000 // certificates a second, at most
)

// Validate says what is wrong.
func (l Limits) Validate() error {
	for name, value := range map[string]int{"connections": l.Connections, "issueAtOnce": l.IssueAtOnce, "callsPerSecond": l.CallsPerSecond, "issuePerSecond": l.IssuePerSecond} {
		if value < 0 {
			return fault.New(fault.Invalid, "limits.%s: %d is below zero", name, value).WithRemedy("remove it, for the default")
		}
	}
	for name, value := range map[string]fleet.Duration{"readWithin": l.ReadWithin, "issueWithin": l.IssueWithin} {
		if value < 0 || value.Std() > 10*time.Second && name == "issueWithin" {
			return fault.New(fault.Invalid, "limits.%s: %s must be above zero, and issueWithin at most 10s", name, value.Std()).
				WithRemedy("remove it, for the default")
		}
	}
	return nil
}

func (l Limits) filled() Limits {
	orElse := func(value *int, other int) {
		if *value == 0 {
			*value = other
		}
	}
	orElse(&l.Connections, defaultConnections)
	orElse(&l.IssueAtOnce, issuePerCPU*runtime.GOMAXPROCS(0))
	orElse(&l.CallsPerSecond, defaultCalls)
	orElse(&l.IssuePerSecond, defaultIssues)
	if l.ReadWithin == 0 {
		l.ReadWithin = fleet.Duration(defaultReadWithin)
	}
	if l.IssueWithin == 0 {
		l.IssueWithin = fleet.Duration(defaultIssueWithin)
	}
	return l
}

func (l Limits) issue() admission.Limits {
	return admission.Limits{
		AtOnce: l.IssueAtOnce, Waiting: mostWaiting, Caller: max(issueOfOne, l.IssueAtOnce), Patience: l.IssueWithin.Std(),
		Rate: float64(possiblePerCPU * runtime.GOMAXPROCS(0)),
	}
}

func (l Limits) issues() admission.CallerLimits {
	return admission.CallerLimits{AtOnce: callsAtOnce, PerSecond: l.IssuePerSecond, Burst: issueBurst * l.IssuePerSecond, Of: "certificates"}
}

func (l Limits) callers() admission.CallerLimits {
	return admission.CallerLimits{AtOnce: callsAtOnce, PerSecond: l.CallsPerSecond, Burst: burst * l.CallsPerSecond, Of: "calls"}
}

// load counts what was refused for there being too much of it.
type load struct {
	calls, connections, slow atomic.Uint64
	open                     atomic.Int64 // connections of agents
}

// enter begins a caller's call, which leave ends, or says when to come back.
func (s *Server) enter(caller control.Caller) (leave func(), err error) {
	return s.enterAs(s.callers, caller, 1)
}

func (s *Server) enterAs(limits *admission.Callers, caller control.Caller, n int) (leave func(), err error) {
	leave, refused := limits.Enter(limitedAs(caller), n)
	if refused != nil {
		s.load.calls.Add(1)
		return nil, comeBack(*refused)
	}
	return leave, nil
}

func comeBack(r admission.Refusal) *fault.Error {
	return fault.New(fault.Unavailable, "the server has too much to do: %s", r.Rule).
		WithRemedy("come back after %s, or ask another server", r.After.Round(time.Millisecond)).WithAfter(r.After)
}

// limitedAs is whose limits a caller falls under: his own, or those of the
// address from which nobody in particular calls. Of IPv6 that is the /64.
func limitedAs(caller control.Caller) string {
	if caller.ID != "" {
		return caller.String()
	}
	address, err := netip.ParseAddrPort(caller.Address)
	if err != nil {
		return fmt.Sprintf("%s %s", caller, caller.Address)
	}
	from := address.Addr().Unmap()
	if from.Is6() {
		if network, err := from.WithZone("").Prefix(64); err == nil {
			from = network.Addr()
		}
	}
	return fmt.Sprintf("%s %s", caller, from)
}

// bounded takes no more connections of agents than the limit: one too many is
// closed at once, so that its agent goes to another server.
func (s *Server) bounded(l net.Listener) net.Listener {
	return &boundedListener{Listener: l, most: int64(s.limits.Connections), load: &s.load}
}

type boundedListener struct {
	net.Listener
	most int64
	load *load
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.load.open.Add(1) <= l.most {
			return l.counted(conn), nil
		}
		l.load.open.Add(-1)
		l.load.connections.Add(1)
		conn.Close()
	}
}

// counted gives the place free when the connection is closed. gRPC can't look
// into it to set what ends one whose other side has gone, so that is done here.
func (l *boundedListener) counted(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { // without it the keepalive ends it a little later
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(api.PingTimeout.Milliseconds()))
			})
		}
	}
	return &countedConn{Conn: conn, left: sync.OnceFunc(func() { l.load.open.Add(-1) })}
}

type countedConn struct {
	net.Conn
	left func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.left()
	return c.Conn.Close()
}
