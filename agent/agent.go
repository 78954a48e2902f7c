package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Options are what an agent is made of.
type Options struct {
	Config  *Config
	Token   string // text of an enrolment token; needed once, harmless later
	Version string
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: the default one
}

// Agent is one agent on its state directory.
type Agent struct {
	config  *Config
	version string
	now     func() time.Time
	log     *slog.Logger
	token   *Token
	pace    pace

	state *stateDir
	ids   *identities

	alarms   *alarms
	syncer   *syncer
	executor *Executor

	ready     chan struct{}
	readyOnce sync.Once
}

// New opens the state directory and takes its lock. It does not touch the
// network.
func New(o Options) (*Agent, error) {
	a := &Agent{config: o.Config, version: o.Version, now: o.Now, log: o.Log, pace: steady, alarms: newAlarms(), ready: make(chan struct{})}
	if a.now == nil {
		a.now = time.Now
	}
	if a.log == nil {
		a.log = slog.Default()
	}
	if strings.TrimSpace(o.Token) != "" {
		token, err := ParseToken(o.Token)
		if err != nil {
			return nil, err
		}
		a.token = &token
	}
	if err := a.checkPins(); err != nil {
		return nil, err
	}
	var err error
	if a.state, err = openState(o.Config.State); err != nil {
		return nil, err
	}
	if err := a.open(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// checkPins compares the token with what agent.yaml says.
func (a *Agent) checkPins() error {
	if a.token == nil {
		return nil
	}
	differ := func(field, want, got string) error {
		if want == "" || want == got {
			return nil
		}
		return fault.New(fault.Conflict, "%s: agent.yaml says %s, the token %s", field, want, got).
			WithRemedy("the token is of another control plane, or agent.yaml is")
	}
	return errors.Join(
		differ("trustDomain", a.config.TrustDomain, a.token.TrustDomain.Name()),
		differ("caPin", strings.ToLower(a.config.CAPin), fmt.Sprintf("%x", a.token.Pin)),
		differ("logKey", a.config.LogKey, a.token.LogKey),
	)
}

func (a *Agent) open() error {
	dir, err := a.state.root.OpenRoot(identityDir)
	if err != nil {
		return err
	}
	a.ids, err = openIdentities(dir)
	if err != nil && a.token == nil {
		return err
	}
	if err != nil {
		a.log.Warn("the identity can't be read; enrolling with the token", "error", err)
	}
	if err := a.checkDomain(); err != nil {
		return err
	}
	return a.checkRefused()
}

// checkDomain refuses the state of another trust domain: its placements would
// be taken for ours.
func (a *Agent) checkDomain() error {
	current := a.ids.current.Load()
	want := a.config.TrustDomain
	if a.token != nil {
		want = a.token.TrustDomain.Name()
	}
	if current == nil || want == "" || current.TrustDomain.Name() == want {
		return nil
	}
	return fault.New(fault.Conflict, "state directory %s is of trust domain %s, not of %s", a.config.State, current.TrustDomain.Name(), want).
		WithRemedy("one directory per trust domain: give this agent another with --state")
}

// checkRefused keeps an agent down that the server has taken for a copy, until
// a token gives it its identity back. Otherwise it would pass after enough
// restarts, for each raises the boot counter.
func (a *Agent) checkRefused() error {
	reason, err := a.state.root.ReadFile(refusedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	current := a.ids.current.Load()
	if current == nil || a.token != nil && a.token.ID != current.Token {
		return nil
	}
	return fault.New(fault.Conflict, "state directory %s: %s", a.config.State, strings.TrimSpace(string(reason))).
		WithRemedy("find the other copy and stop it; then rotunda agent rejoin %s, and start this agent with that token", current.AgentID)
}

// Identity is who the agent is, or nil before it has enrolled.
func (a *Agent) Identity() *Identity { return a.ids.current.Load() }

// Ready is closed once the agent has enrolled and is at work. It needs no
// server for that when it has enrolled before.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Run enrols if need be and works until ctx ends or this copy of the agent is
// refused. It may be called once.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.enrol(ctx); err != nil {
		return err
	}
	if err := a.assemble(); err != nil {
		return err
	}
	a.syncer.carryOn()
	a.readyOnce.Do(func() { close(a.ready) })
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.executor.Run(ctx) })
	group.Go(func() error { return a.syncer.run(ctx) })
	group.Go(func() error { return renewer{a.syncer}.run(ctx) })
	group.Go(func() error { return a.syncer.witness.run(ctx) })
	if a.syncer.witness.demand != nil {
		group.Go(func() error { return a.syncer.witness.watchCosigned(ctx) })
	}
	group.Go(func() error { return a.syncer.testify(ctx) })
	group.Go(func() error { return a.serveSocket(ctx) })
	if a.config.Metrics != "" {
		group.Go(func() error { return a.serveMetrics(ctx) })
	}
	err := group.Wait()
	if errors.Is(err, errRefused) {
		reason := fmt.Appendf(nil, "%s: %v\n", a.now().UTC().Format(time.RFC3339), err)
		err = errors.Join(err, durable.WriteFile(a.state.root, refusedFile, reason, 0o600, nil))
	}
	return err
}

// assemble puts the parts together around the identity.
func (a *Agent) assemble() error {
	identity := a.ids.current.Load()
	wishes, err := openWishes(a.state.root, a.log)
	if err != nil {
		return err
	}
	seen, err := openWitness(a.state.root, identity.LogKey, audit.Origin(identity.TrustDomain.Name()))
	if err != nil {
		return err
	}
	demand, err := newDemand(a.config.Witnesses, a.state.root, seen, a.pace.cosigned, a.now())
	if err != nil {
		return err
	}
	s := &syncer{
		version: a.version, targets: a.config.targetList(), pace: a.pace, now: a.now, log: a.log, state: a.state, ids: a.ids, wishes: wishes,
		clock: newServerClock(a.now), alarms: a.alarms, servers: newServers(a.config.Servers, a.pace, identity.AgentID),
		linked: make(chan struct{}, 1), wanted: make(chan struct{}, 1), testimonies: newTestimonies(),
	}
	s.witness = &logWitness{
		seen: seen, demand: demand, prove: s.proveConsistency, online: func() bool { return s.link.Load() != nil }, streams: s.sessions.Load,
		alarms: a.alarms, log: a.log, now: a.now, pace: a.pace, offered: make(chan checkpoints, 1),
	}
	store, err := a.openBlobs(s, wishes.current)
	if err != nil {
		return err
	}
	a.executor, err = NewExecutor(ExecutorOptions{
		Host: a.config.HostRules(), State: a.state.root, AgentID: identity.AgentID, Issue: s.issue, Bundles: store.bundles, Bridge: store.bridge, CRLs: store.crls, Staple: store.staple, Canaries: s.canaries,
		Sign:       func(statement []byte) (*api.Evidence, error) { return a.ids.current.Load().sign(statement) },
		ClockKnown: func() bool { _, known := s.clock.offset(); return known },
		Status:     s.status,
		Now:        a.now, Log: a.log,
	})
	s.performer, a.syncer = a.executor, s
	return err
}

func (a *Agent) openBlobs(s *syncer, desired *api.DesiredState) (*blobs, error) {
	dir, err := a.state.root.OpenRoot(blobsDir)
	if err != nil {
		return nil, err
	}
	store := &blobs{dir: dir, fetch: s.fetchBlobs}
	return store, store.prune(desired)
}

// Close gives the state directory free.
func (a *Agent) Close() error {
	return a.state.close()
}
