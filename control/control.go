// Package control holds every change of state that Rotunda knows: one verb,
// one transaction, one audit entry.
//
// A verb takes the caller and a message of the API, decides on what the store
// shows at one frozen moment, and writes what it decided together with the
// audit entry that says so. It answers after both are durable. Verbs that
// refuse for a reason of safety (policy, a used token, a cloned agent) leave
// an entry too.
package control

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/witness"
)

// Options is what a Control stands on.
type Options struct {
	DB           *store.DB
	KEK          *keys.KEK // opens the issuing authority's key and the log's
	PublicURL    string    // base of the CRL and issuer URLs in certificates, no slash at the end
	AgentAddress string    // host:port that tokens and operators are told
	NotifyURL    string    // where notices go of services that name nothing else; empty: nowhere
	Commands     []string  // that gates may name
	Witnesses    witness.Config
	Version      string
	IdentityLife time.Duration // of agents' own certificates; 0: a day
	Retention    Retention
	Archive      archive.Dir // where archived certificates go; empty: nowhere, and all stay
	Spooling     Spooling    // what goes on while the store is away
	Now          func() time.Time
	Log          *slog.Logger
}

// Control carries out verbs. It is safe for use by many goroutines. What it
// keeps beside the store is who is connected, and what it can find out again.
type Control struct {
	db           *store.DB
	domain       spiffeid.TrustDomain
	kek          *keys.KEK
	publicURL    string
	logSigner    note.Signer
	logKey       string
	logVerifier  note.Verifier
	agentAddress string
	notifyURL    string
	commands     []string
	version      string
	identityLife time.Duration
	retention    Retention
	archive      archive.Dir
	instance     string // of this process, by which it holds leases
	now          func() time.Time
	log          *slog.Logger

	world      atomic.Pointer[world]
	commons    commons
	desiring   desiring
	edges      edgePlans
	opened     sync.Map // authority id → *signer
	unables    atomic.Pointer[unable]
	cutOff     cutOff
	identities identities
	grants     sync.Map // placement id → *grant
	watchers   watchers
	presence   presence
	elsewhere  elsewhere
	started    time.Time
	clones     sync.Map // agent → alarm about a second copy of its state
	anchors    sync.Map // agent → digest of the bundle that it said it believes servers by
	doubts     sync.Map // placement → the last doubt about its report
	refusals   refusals
	recorder   recorder
	canaries   canaryBudget
	sinks      sync.Map // name → true, of sinks in this server's rotunda.yaml
	witnesses  witness.Config
	listBytes  listBytes
	answers    answers
	figures    figures
	retaining  retaining
	heeded     heeded
	moves      moves
	shown      atomic.Value // extent of the log, to some agents here
}

// Domain is the trust domain that this store belongs to.
func (c *Control) Domain() spiffeid.TrustDomain { return c.domain }

// LogKey is the audit log's verifier key, in the form of a signed note's.
func (c *Control) LogKey() string { return c.logKey }

// Origin names the audit log in its checkpoints.
func (c *Control) Origin() string { return audit.Origin(c.domain.Name()) }

// DomainBundle is the current domain-wide bundle.
func (c *Control) DomainBundle(ctx context.Context) (pki.Bundle, error) {
	var bundle pki.Bundle
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		bundle, err = c.currentBundle(ctx, tx, fleet.DefaultBundle)
		return err
	})
	return bundle, err
}

// Changed returns a channel that is closed at the next commit, here or at another
// server of the store.
func (c *Control) Changed() (version uint64, next <-chan struct{}) { return c.db.Changed() }
