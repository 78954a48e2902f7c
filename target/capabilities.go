package target

import (
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/probe"
)

// When is the moment at which a server takes something new.
type When string

// The moments.
const (
	AtHandshake When = "handshake" // reads its files at each one; nothing to do
	AtReload    When = "reload"
	AtRestart   When = "restart"
	Never       When = "never"   // has no such thing
	Unknown     When = "unknown" // whoever reads the files knows
)

// Live says whether a server takes it without a restart.
func (w When) Live() bool { return w == AtHandshake || w == AtReload }

// Answer is yes, no, or nobody can say.
type Answer string

// The answers.
const (
	Yes        Answer = "yes"
	No         Answer = "no"
	NotCertain Answer = "unknown"
)

// Layout is the way in which a server finds its files.
type Layout string

// The layouts.
const (
	LayoutSymlink Layout = "symlink" // follows DIR/current whenever it reads
	LayoutFiles   Layout = "files"   // resolves paths at its start and keeps them
)

// Capabilities is one row of the table of what kinds of servers can do.
type Capabilities struct {
	Kind   fleet.TargetKind `json:"kind"`
	Title  string           `json:"title"`
	Layout Layout           `json:"layout"`
	// Control is what agent.yaml has to say under targets, in words. Empty:
	// the kind has no control path.
	Control string `json:"control,omitempty"`
	// Word is how the server itself shows that it took something, in words,
	// and what that word is worth.
	Word string `json:"word,omitempty"`
	// Owner is who must own the files, and with which mode, in words.
	Owner string `json:"owner,omitempty"`
	// Health is what must be so before the next member of a cluster has its
	// turn, in words.
	Health string `json:"health,omitempty"`
	// Reload is what makes it read its files again, in words.
	Reload string `json:"reload"`

	Leaf         When `json:"leaf"`         // certificate and key
	KeyType      When `json:"keyType"`      // a key of another algorithm
	AnchorAdd    When `json:"anchorAdd"`    // trusting one more CA
	AnchorRemove When `json:"anchorRemove"` // trusting one less
	CRL          When `json:"crl"`
	Staple       When `json:"staple"`
	// CRLInclude is what its configuration has to include of a revision, in words,
	// so that CRLs can be set aside before they end. Empty: they can't.
	CRLInclude string `json:"crlInclude,omitempty"`

	// ClosesConnections says whether taking something new ends connections
	// that are open; CloseSessionsBy how to end them after a withdrawal,
	// since no server looks at a client's certificate twice.
	ClosesConnections Answer `json:"closesConnections"`
	CloseSessionsBy   string `json:"closeSessionsBy"`
	// Validates says whether it notices a broken pair and keeps the old one;
	// BrokenPair what happens then, in words.
	Validates  Answer `json:"validates"`
	BrokenPair string `json:"brokenPair"`
	// VerifyDepth is how many intermediates it follows in a client's chain.
	// 0: it sets no limit of its own.
	VerifyDepth int            `json:"verifyDepth"`
	Formats     []fleet.Format `json:"formats"`
	// Preamble is the usual one; a target's own is in its intent.
	Preamble probe.Preamble `json:"preamble"`
	// Measured names the versions that the row was measured on.
	Measured string `json:"measured"`
	Note     string `json:"note"`
}

// NeedsRestart lists what it takes only at a restart, in words.
func (c Capabilities) NeedsRestart() []string {
	var needs []string
	for _, part := range []struct {
		when When
		name string
	}{
		{c.Leaf, "certificate"}, {c.KeyType, "key type"}, {c.AnchorAdd, "CA added"},
		{c.AnchorRemove, "CA removed"}, {c.CRL, "CRL"}, {c.Staple, "staple"},
	} {
		if part.when == AtRestart {
			needs = append(needs, part.name)
		}
	}
	return needs
}
