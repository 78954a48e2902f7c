// Package target knows the kinds of servers: how each takes a new
// certificate, key or bundle, and what it can't take without a restart.
//
// There is one file for each kind and one table of what the kinds can do.
// Plan says what has to be done after files were switched and is pure; Load
// does it, through commands that the host's agent.yaml names. What a server
// then really serves is for package probe to say.
package target

import (
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// Adapter is a kind of server: what it can do, what its proof may assume, and
// what it needs after a change.
type Adapter struct {
	Capabilities
	Proof ProofDefaults

	plan   func(Target, Change) []Act
	health string // path of its health page over HTTPS; empty: it has none
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
	// ReloadCommand and RestartCommand are named in agent.yaml. Empty: there
	// is none.
	ReloadCommand, RestartCommand string
	// Address, ServerName and Preamble are how to shake hands with it. An
	// empty Address means that nothing listens.
	Address, ServerName string
	Preamble            probe.Preamble
}

// Change is what a revision holds that the one in use before it did not.
type Change struct {
	// First says that there was none before: whoever reads these files will
	// do so at its start.
	First bool
	// Leaf is another certificate, KeyType a key of another algorithm.
	Leaf, KeyType bool
	// AnchorsAdded and AnchorsRemoved are how the bundle differs.
	AnchorsAdded, AnchorsRemoved bool
	// CRL is another revocation list.
	CRL bool
}

// Bundle says whether the bundle differs at all.
func (c Change) Bundle() bool { return c.AnchorsAdded || c.AnchorsRemoved }

// None says whether nothing differs.
func (c Change) None() bool { return c == Change{First: c.First} }

// Adapters lists the adapters by kind.
func Adapters() []Adapter { return []Adapter{etcd(), files()} }

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
