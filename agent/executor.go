package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/pki"
)

// ExecutorOptions is what an executor works with. Host, State, AgentID,
// Issue and Bundles are needed.
type ExecutorOptions struct {
	Host    *HostRules
	State   *os.Root // the agent's state directory
	AgentID string

	// Issue asks the control plane for certificates, at most maxIssue at once.
	Issue func(ctx context.Context, requests []*api.PlacementRequest) ([]*api.IssueResult, error)
	// Bundles finds bundles by their digests (hex); all of them, or an error.
	Bundles func(ctx context.Context, digests []string) (map[string]pki.Bundle, error)
	// Bridge finds a bridge by the SHA-256 of its DER (hex). nil: there are none.
	Bridge func(ctx context.Context, digest string) (*x509.Certificate, error)
	// CRLs finds CRLs by the SHA-256 of their DERs one after the other, Staple an
	// OCSP response by that of its own (hex). nil: there are none.
	CRLs   func(ctx context.Context, digest string) (pki.CRLs, error)
	Staple func(ctx context.Context, digest string) ([]byte, error)
	// Sign signs a statement as evidence of this agent's. nil: none is kept.
	Sign func(statement []byte) (*api.Evidence, error)

	// ClockKnown says whether this host's clock was compared with a server's;
	// until then nothing is destroyed by it. nil: it need not be.
	ClockKnown func() bool

	// Canaries asks the control plane for client certificates by which to try
	// what a target trusts; revoked ones are for trying what it refuses. nil: there
	// are none.
	Canaries func(ctx context.Context, placementID string, csr []byte, revoked bool) ([]*api.Canary, error)

	// Status is how the agent as a whole stands, for who asks on its socket. nil:
	// nobody is told.
	Status func() Status

	// Reached is told of each point between two effects, by name: where a test
	// may stop the process. nil: nobody is.
	Reached func(point string)

	Now func() time.Time
	Log *slog.Logger

	elapsed func() time.Duration // of a clock that only goes forward
}

// Executor carries out what package rotation derives for the placements of
// this host. There is one worker for each target, so that the placements of
// one process never reload it at once, and a target that hangs holds up no
// other. Between rotations nothing runs: workers sleep until the next moment
// that the rules name.
//
// Every fact is durable before the next step is derived from it. So the
// executor may be killed at any instruction; a new one with the same state
// directory carries on, whether the control plane is there or not.
type Executor struct {
	ExecutorOptions

	issues  chan issueCall
	changed chan struct{} // of capacity one: some report is new
	regroup chan struct{} // of capacity one: desires came

	streams atomic.Uint64 // that the control plane has opened
	revoked revokedCanaries

	mu         sync.Mutex
	placements map[string]*placement // by placement id
	hold       string                // of the agent as a whole
	version    chan struct{}         // closed, and made anew, at each new report
}

// NewExecutor makes an executor, which does nothing until Run.
func NewExecutor(o ExecutorOptions) (*Executor, error) {
	if o.Host == nil || o.State == nil || o.AgentID == "" || o.Issue == nil || o.Bundles == nil {
		return nil, errors.New("executor: host rules, state directory, agent id, Issue and Bundles must be given")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.elapsed == nil {
		o.elapsed = sinceBoot
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := durable.Mkdir(o.State, placementsDir, 0o700, nil); err != nil {
		return nil, err
	}
	return &Executor{
		ExecutorOptions: o,
		issues:          make(chan issueCall),
		changed:         make(chan struct{}, 1),
		regroup:         make(chan struct{}, 1),
		placements:      map[string]*placement{},
		version:         make(chan struct{}),
	}, nil
}

// SetDesired replaces what is desired. A placement that is not named any more
// is treated as an orphan: its files stay, and what was begun is ended.
func (e *Executor) SetDesired(d *api.DesiredState) {
	e.mu.Lock()
	named := map[string]bool{}
	for _, wanted := range d.GetPlacements() {
		id := wanted.GetPlacementId()
		named[id] = true
		p := e.placements[id]
		if p == nil {
			p = newPlacement(e, id)
			e.placements[id] = p
		}
		p.want(wanted)
	}
	for id, p := range e.placements {
		if !named[id] {
			p.orphan()
		}
	}
	e.mu.Unlock()
	notify(e.regroup)
}

// SetHold stops all beginnings on this host, and says why; "" ends that. It is
// for a clock that is off: so nothing is destroyed either. What was begun is
// ended, and what is about to run out is renewed all the same.
func (e *Executor) SetHold(reason string) {
	e.mu.Lock()
	same := e.hold == reason
	e.hold = reason
	e.mu.Unlock()
	if !same {
		notify(e.regroup)
	}
}

func (e *Executor) held() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hold
}

func (e *Executor) clockOff() bool {
	return e.held() != "" || (e.ClockKnown != nil && !e.ClockKnown())
}

// Run carries out rotations until ctx ends, and returns when all that was in
// the middle of an effect has come to a durable end of it.
func (e *Executor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	running.Go(func() { e.issueAll(ctx) })
	running.Go(func() { e.probeEdges(ctx) })
	workers := map[string]*worker{}
	for {
		for target, placements := range e.byTarget() {
			w := workers[target]
			if w == nil {
				w = &worker{e: e, wake: make(chan struct{}, 1)}
				workers[target] = w
				running.Go(func() { w.run(ctx) })
			}
			w.assign(placements)
		}
		select {
		case <-ctx.Done():
			running.Wait()
			return nil
		case <-e.regroup:
		}
	}
}

// byTarget groups the placements by the process that they are of. Every target
// that ever had a placement is named, so that its worker learns that it has none.
func (e *Executor) byTarget() map[string][]*placement {
	e.mu.Lock()
	defer e.mu.Unlock()
	groups := map[string][]*placement{}
	for _, p := range e.placements {
		for _, former := range p.targets {
			groups[former] = append(groups[former], nil...)
		}
		groups[p.target()] = append(groups[p.target()], p)
	}
	for _, group := range groups {
		slices.SortFunc(group, byID)
	}
	return groups
}

// Reports says what the host shows, for each placement.
func (e *Executor) Reports() []*api.PlacementReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	var reports []*api.PlacementReport
	for _, p := range e.placements {
		if report := p.shown.Load(); report != nil {
			reports = append(reports, report)
		}
	}
	slices.SortFunc(reports, func(a, b *api.PlacementReport) int {
		return compareStrings(a.GetPlacementId(), b.GetPlacementId())
	})
	return reports
}

// Changed receives when a report is new. Several changes may come as one.
func (e *Executor) Changed() <-chan struct{} { return e.changed }

// announce tells whoever waits that a report is new.
func (e *Executor) announce() {
	notify(e.changed)
	e.mu.Lock()
	close(e.version)
	e.version = make(chan struct{})
	e.mu.Unlock()
}

// next is closed at the next new report.
func (e *Executor) next() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.version
}

// reached marks a point between two effects.
func (e *Executor) reached(point string) {
	if e.Reached != nil {
		e.Reached(point)
	}
}

func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
