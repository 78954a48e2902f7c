// Package target knows the kinds of servers: how each takes a new
// certificate, key or bundle, and what it can't take without a restart.
//
// There is one file for each kind and one table of what the kinds can do.
// Plan says what has to be done after files were switched and is pure; Load
// does it, over the target's control path or by a command, both of which the
// host's agent.yaml names. Contact looks at the control path before anything
// is touched. What a server then really serves is for package probe to say.
package target

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// Adapter is a kind of server: what it can do, what its proof may assume, and
// how it is reached on its control path. The functions are nil where a kind
// has no such thing.
type Adapter struct {
	Capabilities
	Proof ProofDefaults

	// plan is for kinds that do not simply follow their row of the table.
	plan func(Target, Change) []Act
	// contact looks at what answers on the control path, and changes nothing.
	contact func(context.Context, Host, Target) (Contact, error)
	// reload makes the server take what DIRECTORY/current holds, and says
	// how far the server's own word goes.
	reload func(context.Context, Host, Target, Change) (Loaded, error)
	// health says whether the member is well enough for the next one's turn.
	health func(context.Context, Host, Target, probe.Spec) error
	// says is the server's own word on the certificate that it serves.
	says func(context.Context, Host, Target) (string, error)
	// closeSessions and reconnectLinks carry orders out.
	closeSessions  func(context.Context, Host, Target, Order) (Result, error)
	tellsSerials   bool // closeSessions can close those of single certificates
	reconnectLinks func(context.Context, Host, Target, Order) (Result, error)
	// crlConfig is the line of a configuration that names CRLs.
	crlConfig func(path string) string
	// stapleConfig is the same of a response to staple.
	stapleConfig func(path string) string
	// restartCloses says that a restart is how its sessions are closed.
	restartCloses bool
}

// ProofDefaults is what the proof of a kind of server may assume.
type ProofDefaults struct {
	// Immediate says that files are read at each handshake: a wrong
	// certificate is wrong for good, not a reload under way.
	Immediate bool
}

// Target is one running server, as far as its adapter needs to know it.
type Target struct {
	Name string
	// Directory is the placement's own: the server reads DIRECTORY/current/….
	Directory string
	// Control is the control path that agent.yaml names for this target. nil:
	// it names none.
	Control *Control
	// ReloadCommand and RestartCommand are named in agent.yaml. Empty: there
	// is none.
	ReloadCommand, RestartCommand string
	// Address, ServerName and Preamble are how to shake hands with it. An
	// empty Address means that nothing listens.
	Address, ServerName string
	Preamble            probe.Preamble
	// CRL says that CRLs are delivered, and what becomes of those that are about
	// to end. Empty: none are.
	CRL fleet.OnStale
	// Staple says that a response is delivered to be stapled.
	Staple bool
}

// File is the path by which the server reads a file of the revision in use.
func (t Target) File(name string) string { return filepath.Join(t.Directory, "current", name) }

// Control is a way to a server that does not lead through the TLS which is
// being changed. All of it comes from the host's own agent.yaml.
type Control struct {
	// Address is a unix socket by its absolute path, or a loopback host:port
	// that speaks in the plain.
	Address string
	// User and Password are what the server knows the agent by. Password
	// reads its file anew at each call; nil: there is none.
	User     string
	Password func() ([]byte, error)
	// PIDFile holds the number of the process to be signalled.
	PIDFile string
	// Program is the server's own tool, by its absolute path, Arguments what
	// goes before all that the adapter adds, RunAs the user that runs it.
	Program   string
	Arguments []string
	RunAs     string
}

// Host is what an adapter may have done on its host.
type Host struct {
	// Command runs a command that agent.yaml names, and returns what it
	// printed. Its error says how the command ended.
	Command func(ctx context.Context, name string) (output string, err error)
	// Program runs a program as a user, within ctx. No shell takes part.
	Program func(ctx context.Context, user string, argv ...string) (output string, err error)
}

// Contact is what answers on a control path.
type Contact struct {
	Product, Version string
}

// String is like "redis 7.0.15".
func (c Contact) String() string { return strings.TrimSpace(c.Product + " " + c.Version) }

// Change is what a revision holds that the one in use before it did not.
type Change struct {
	// First says that there was none before: whoever reads these files will
	// do so at its start.
	First bool
	// Unknown says that nobody knows what the process has: the record of it was
	// lost, or its files lay elsewhere.
	Unknown bool
	// Leaf is another certificate, KeyType a key of another algorithm.
	Leaf, KeyType bool
	// AnchorsAdded and AnchorsRemoved are how the bundle differs.
	AnchorsAdded, AnchorsRemoved bool
	// CRL is another revocation list, or none in the place of one; Staple the same
	// of the OCSP response.
	CRL, Staple bool
}

// Bundle says whether the bundle differs at all.
func (c Change) Bundle() bool { return c.AnchorsAdded || c.AnchorsRemoved }

// None says whether nothing differs.
func (c Change) None() bool { return c == Change{First: c.First, Unknown: c.Unknown} }

// Adapters lists the adapters by kind.
func Adapters() []Adapter {
	return []Adapter{
		etcd(), files(), haproxy(), mariadb(), memcached(), mosquitto(),
		nats(), nginx(), postgres(), rabbitmq(), redis(),
	}
}

// Lookup finds the adapter of a kind.
func Lookup(kind fleet.TargetKind) (Adapter, error) {
	var known []string
	for _, adapter := range Adapters() {
		if adapter.Kind == kind {
			return adapter, nil
		}
		known = append(known, string(adapter.Kind))
	}
	return Adapter{}, fault.New(fault.Invalid, "target kind %q is unknown", string(kind)).
		WithRemedy("use one of %s; files is for anything that reads files", strings.Join(known, ", "))
}

// Contact looks at what answers on the target's control path: that it is this
// kind of server, in a version that can do what its row says, and that it lets
// the agent do what a rotation will need. It changes nothing. Where the kind
// has no control path, or agent.yaml names none, the answer is empty.
//
// The error has the code Unavailable where nothing answers, as when the server
// is not running; any other is for an administrator to mend.
func (a Adapter) Contact(ctx context.Context, host Host, t Target) (Contact, error) {
	if a.contact == nil || t.Control == nil {
		return Contact{}, nil
	}
	return a.contact(ctx, host, t)
}

// Says is the server's own word on what it serves, to be kept beside a proof
// and never instead of it. Empty where the kind has no word or no control path.
func (a Adapter) Says(ctx context.Context, host Host, t Target) (string, error) {
	if a.says == nil || t.Control == nil {
		return "", nil
	}
	return a.says(ctx, host, t)
}
