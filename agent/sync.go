package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// performer is what carries out the desired state: the Executor.
type performer interface {
	SetDesired(*api.DesiredState)
	SetHold(reason string)
	Reachable()
	Reports() []*api.PlacementReport
	Changed() <-chan struct{}
}

// pace is how often and how long; tests are quicker.
type pace struct {
	beat         time.Duration // of silence, before a message that only says "still here"
	watch        time.Duration // between looks at the clock, and at turns of the log that nobody has acknowledged
	full         time.Duration // between messages with all placements
	firstState   time.Duration // from hello to the first desired state
	backoff      backoff       // after failures of a server
	steady       time.Duration // how long a stream must have lasted for its server to count as well
	look         time.Duration // between looks at nearer servers
	settle       time.Duration // how long a nearer server must be well to go back to it
	unproven     time.Duration // how long a checkpoint may stay without a proof
	cosigned     time.Duration // and without the cosignatures that agent.yaml demands
	renewBackoff backoff       // after a failed renewal of the identity
}

var steady = pace{
	beat: api.BeatEvery, watch: 30 * time.Second, full: api.FullEvery, firstState: 30 * time.Second,
	backoff: backoff{250 * time.Millisecond, 15 * time.Second},
	steady:  30 * time.Second, look: 30 * time.Second, settle: time.Minute,
	unproven:     10 * time.Minute,
	cosigned:     10 * time.Minute,
	renewBackoff: backoff{2 * time.Second, 5 * time.Minute},
}

// errRefused: the server takes another stream of this agent for the genuine
// one. Going on could show the same placements twice, so the agent stops.
var errRefused = errors.New("the server refuses this copy of the agent's state")

// errReconnect ends a session that is to be opened again at once: with a new
// identity, or to see what the server shows now.
var errReconnect = errors.New("the stream is opened anew")

// syncer keeps one stream to one of the servers: reports go up, the desired
// state comes down. It is level-triggered: whatever was lost is said again when
// the next stream opens.
type syncer struct {
	version string
	targets string // what control paths agent.yaml names, as a fact
	pace    pace
	now     func() time.Time
	log     *slog.Logger

	state       *stateDir
	ids         *identities
	wishes      *wishes
	performer   performer
	clock       *serverClock
	alarms      *alarms
	witness     *logWitness
	testimonies testimonies
	servers     *servers
	linked      chan struct{} // gets a token when a stream is open
	wanted      chan struct{} // gets a token when a desired state was taken
	sessions    atomic.Uint64 // streams that have worked

	link     atomic.Pointer[link] // of the stream that is open, or nil
	newest   atomic.Pointer[api.DesiredState]
	refusals int // in a row, of the current identity

	lookedAgain pki.BundleDigest // for which a stream was opened anew
}

// run keeps a stream open until ctx ends. The only errors are ctx's and
// errRefused.
func (s *syncer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		server, rest := s.servers.next(s.now())
		if err := wait(ctx, rest, nil); err != nil {
			return err
		}
		identity, began := s.pick(), s.now()
		worked, err := s.session(ctx, server, identity)
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errRefused) {
			return err
		}
		s.after(server, identity, worked, s.now().Sub(began), err)
		switch {
		case s.now().After(identity.NotAfter()):
			s.renewExpired(ctx, server, identity)
		case saysNo(err):
			s.bearWitness(ctx, server, identity)
		}
	}
	return ctx.Err()
}

// pick is the identity to show: the current one, or the one before it when the
// current one has never worked and was refused twice.
func (s *syncer) pick() *Identity {
	fallback := s.ids.fallback()
	if fallback == nil || s.refusals < 2 || !s.now().Before(fallback.NotAfter()) {
		return s.ids.current.Load()
	}
	s.refusals = 0
	return fallback
}

// after draws the conclusions from a session that has ended.
func (s *syncer) after(server string, identity *Identity, worked bool, took time.Duration, err error) {
	if errors.Is(err, errReconnect) {
		return
	}
	if worked {
		took = 0 // it served meanwhile
		s.log.Info("stream ended", "server", server, "error", err)
	} else {
		if saysNo(err) {
			s.refusals++
		}
		s.log.Warn("no stream", "server", server, "error", err)
		s.alarms.set(alarmServer, s.describe(err))
	}
	s.servers.failed(server, s.now(), took, fault.AfterOf(err), textOf(err))
	if now := s.now(); now.After(identity.NotAfter()) {
		s.alarms.set(alarmIdentity, fmt.Sprintf("the agent's identity expired at %s; on the control plane: rotunda emergency open, or rotunda agent rejoin %s",
			identity.NotAfter().UTC().Format(time.RFC3339), identity.AgentID))
	}
}

// describe says in an alarm what an operator must see. That a server is away
// is no alarm of its own: it comes with the reports that it does not get.
func (s *syncer) describe(err error) string {
	if fault.CodeOf(err) == fault.Unavailable {
		return ""
	}
	return err.Error()
}

// session opens a stream and serves it until it ends. It worked when a desired
// state came.
func (s *syncer) session(ctx context.Context, server string, identity *Identity) (worked bool, err error) {
	link, err := dial(server, trust{identity.TrustDomain, anchored(identity.Anchors), s.now}, identity, s.version)
	if err != nil {
		return false, err
	}
	defer func() {
		if errors.Is(err, errReconnect) {
			link.drain()
		} else {
			link.close()
		}
	}()
	group, ctx := errgroup.WithContext(ctx) // ends with the first half that ends
	stream, err := link.Sync(ctx)
	if err != nil {
		return false, link.explain(err)
	}
	// Only now, when the connection stands: no write for each attempt.
	boot, err := s.state.raiseBoot()
	s.alarms.set(alarmDisk, textOf(err))
	if err != nil {
		s.log.Error("no stream can be opened: the boot counter can't be raised", "error", err)
		return false, err
	}
	reporter := &reporter{sync: s, link: link}
	if err := stream.Send(reporter.first(boot)); err != nil {
		_, err = stream.Recv() // has the reason
		return false, s.judge(link.explain(err))
	}

	states, opened := make(chan *api.DesiredState), make(chan struct{})
	group.Go(func() error {
		for {
			state, err := stream.Recv()
			if err != nil {
				return link.explain(err)
			}
			select {
			case states <- state:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	group.Go(func() error {
		defer s.link.CompareAndSwap(link, nil)
		return s.serve(ctx, link, reporter, stream, states, opened)
	})
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-opened:
			return s.watchServers(ctx, link)
		}
	})
	err = group.Wait()
	select {
	case <-opened:
		worked = true
	default:
	}
	if !worked {
		err = s.judge(err)
	}
	return worked, err
}

// judge tells a refusal of this copy of the agent from other errors of opening
// a stream.
func (s *syncer) judge(err error) error {
	if fault.CodeOf(err) == fault.Conflict {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}

// serve is the open stream: it takes what comes and reports what changes.
func (s *syncer) serve(ctx context.Context, link *link, reporter *reporter, stream api.AgentService_SyncClient, states <-chan *api.DesiredState, opened chan<- struct{}) error {
	worked := false
	first := time.NewTimer(s.pace.firstState)
	defer first.Stop()
	silence := s.pace.beat + rand.N(s.pace.beat/4+1)
	beat := time.NewTicker(silence)
	defer beat.Stop()
	watch := time.NewTicker(s.pace.watch)
	defer watch.Stop()
	full := time.NewTicker(s.pace.full + rand.N(s.pace.full/4+1))
	defer full.Stop()
	for {
		var report *api.AgentReport
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-first.C:
			return fault.New(fault.Unavailable, "server %s: no desired state within %s", link.server, s.pace.firstState)
		case state := <-states:
			if !worked {
				first.Stop()
				worked = true
				s.opened(link)
				close(opened)
			}
			before := s.newest.Load()
			if err := s.take(state, link); err != nil {
				return err
			}
			if report = reporter.answer(before, s.newest.Load()); report == nil {
				continue
			}
		case <-s.performer.Changed():
			report = reporter.changes()
			if len(report.Placements) == 0 {
				continue
			}
		case <-s.alarms.changed:
			report = reporter.beat()
		case <-beat.C:
			report = reporter.beat()
		case <-watch.C:
			s.watchClock()
			s.witness.showTurns()
			continue
		case <-full.C:
			report = reporter.full()
		case <-s.testimonies.taken:
			report = reporter.full() // what was doubted for want of a record
		case <-s.ids.replaced:
			if !link.identity.Chain.Leaf.Equal(s.ids.current.Load().Chain.Leaf) {
				return errReconnect
			}
			continue
		}
		if err := stream.Send(report); err != nil {
			// The receiver has the reason; it ends ctx.
			<-ctx.Done()
			return ctx.Err()
		}
		beat.Reset(silence)
	}
}

// opened notes that a stream works, and with it the identity that it shows.
func (s *syncer) opened(link *link) {
	s.sessions.Add(1)
	s.refusals = 0
	s.alarms.set(alarmServer, "")
	s.alarms.set(alarmIdentity, "")
	s.link.Store(link)
	s.servers.arrived(link.server, s.now())
	s.log.Info("stream open", "server", link.server)
	if old := s.ids.fallback(); old != nil && old == link.identity {
		s.log.Error("the renewed identity was refused; going on with the one before it")
		s.alarms.set(alarmDisk, textOf(s.ids.revert()))
	} else {
		s.alarms.set(alarmDisk, textOf(s.ids.confirm(link.identity)))
	}
	s.performer.Reachable()
	notify(s.linked)
}

// take takes a desired state, unless it is older than what is known.
func (s *syncer) take(state *api.DesiredState, link *link) error {
	if state.ServerTime != nil {
		s.clock.observe(state.ServerTime.AsTime())
		s.watchClock()
	}
	if err := s.turn(state); err != nil {
		s.log.Error("a state of another epoch is not taken", "server", link.server, "epoch", state.Epoch, "error", err)
		s.alarms.set(alarmEpoch, fmt.Sprintf("the server's store began epoch %d: %v", state.Epoch, err))
		return nil
	}
	s.alarms.set(alarmEpoch, "")
	s.witness.offer(checkpoints{state.Checkpoint, state.Cosigned})
	s.askedToTestify(state.Testify)
	if s.wishes.older(state) {
		if state.Epoch < s.epoch() {
			s.log.Warn("the server's store is older than one seen before", "server", link.server, "epoch", state.Epoch, "seen", s.epoch())
		}
		return nil
	}
	again := s.adopt(state.Anchors, link)
	s.alarms.set(alarmDisk, textOf(s.wishes.take(state)))
	s.newest.Store(state)
	s.servers.tell(state.Region, state.Servers)
	s.performer.SetDesired(state)
	notify(s.wanted)
	return again
}

// adopt takes another bundle to trust servers by, if the server that sends it
// stands under it: an agent must not lock itself out. What a server showed when
// the stream was opened may be older than the bundle, so it is looked at again
// once, on another stream, before the bundle is left alone.
func (s *syncer) adopt(ders [][]byte, link *link) (again error) {
	if len(ders) == 0 {
		return nil
	}
	anchors, err := pki.ParseBundleDER(ders)
	if err == nil && anchors.Digest() == s.ids.current.Load().Anchors.Digest() {
		return nil
	}
	if err == nil {
		err = trust{link.identity.TrustDomain, anchored(anchors), s.now}.verify(*link.peers.Load())
		if err != nil && s.lookedAgain != anchors.Digest() {
			s.lookedAgain = anchors.Digest()
			again = errReconnect
		}
	}
	if err == nil {
		err = s.ids.trust(anchors)
	}
	if err != nil {
		s.log.Error("new anchors are not taken", "server", link.server, "error", err)
		return again
	}
	s.log.Info("new anchors", "digest", anchors.Digest().String())
	return nil
}

// watchClock raises or clears the alarm of the clock; while it stands the
// executor begins nothing.
func (s *syncer) watchClock() {
	trouble := s.clock.trouble()
	if s.alarms.set(alarmClock, trouble) {
		s.performer.SetHold(trouble)
		s.log.Warn("clock", "trouble", trouble)
	}
}

// carryOn begins with what was taken before the restart.
func (s *syncer) carryOn() {
	if s.wishes.current != nil {
		s.newest.Store(s.wishes.current)
		s.servers.tell(s.wishes.current.Region, s.wishes.current.Servers)
		s.performer.SetDesired(withoutSlots(s.wishes.current))
	}
}

func (s *syncer) epoch() uint64 { return s.newest.Load().GetEpoch() }
func (s *syncer) seq() uint64   { return s.newest.Load().GetSeq() }

func (s *syncer) newestCheckpoint() []byte { return s.witness.newest() }

// online is the link of the open stream.
func (s *syncer) online() (*link, error) {
	if l := s.link.Load(); l != nil {
		return l, nil
	}
	return nil, fault.New(fault.Unavailable, "no server can be reached")
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
