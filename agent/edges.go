package agent

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
)

// The agent that the control plane chose for an edge shakes hands with the
// server at its real address, as the client's process would: with the bundle in
// use there, for the name that the client asks for, with the client's own
// certificate. It looks when something changed, and else rarely. What came of it
// is in memory only: an agent that starts looks anew.
const (
	maxEdges    = 32 // whatever is desired
	edgeTimeout = 5 * time.Second
	edgeEvery   = 10 * time.Minute
	edgeAgain   = time.Minute // after one that did not fit
)

// edges is what one placement's looks came to.
type edges struct {
	shown atomic.Pointer[[]*api.EdgeReport]
	looks map[string]edgeLook // by address; of probeEdges alone
}

// edgeLook is the newest look at one address.
type edgeLook struct {
	as     string // desired, and the revision in use: another one is looked at at once
	next   time.Time
	report *api.EdgeReport
}

// probeEdges looks at the edges of all placements, one after the other, until
// ctx ends. A server that never answers holds up no rotation.
func (e *Executor) probeEdges(ctx context.Context) {
	for ctx.Err() == nil {
		changed := e.next()
		next := e.Now().Add(edgeEvery)
		left := maxEdges
		for _, p := range e.all() {
			next = earlier(next, p.lookAtEdges(ctx, &left))
		}
		timer := time.NewTimer(max(next.Sub(e.Now()), time.Second))
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (e *Executor) all() []*placement {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*placement
	for _, p := range e.placements {
		all = append(all, p)
	}
	slices.SortFunc(all, byID)
	return all
}

// lookAtEdges looks at those of the placement's edges that are due, and says
// when the next one is.
func (p *placement) lookAtEdges(ctx context.Context, left *int) (next time.Time) {
	w := p.wished.Load()
	report := p.shown.Load()
	if w == nil || w.wish == nil || w.bare || w.desired.Orphan || report.GetRevision() == 0 {
		return time.Time{}
	}
	looks := map[string]edgeLook{}
	var reports []*api.EdgeReport
	for _, edge := range w.edges {
		if *left--; *left < 0 || ctx.Err() != nil {
			break
		}
		key := edge.GetServer() + " " + edge.GetAddress()
		look := p.edges.looks[key]
		as := edge.String() + report.GetBundleDigest() + report.GetSerial()
		if look.as != as || !p.e.Now().Before(look.next) {
			look = p.lookAtEdge(ctx, w.wish, edge, as)
		}
		looks[key] = look
		next = earlier(next, look.next)
		if look.report != nil {
			reports = append(reports, look.report)
		}
	}
	if ctx.Err() != nil {
		return time.Time{}
	}
	p.edges.looks = looks
	p.edges.shown.Store(&reports)
	p.showEdges()
	return next
}

// showEdges puts what the looks came to into the report.
func (p *placement) showEdges() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := p.shown.Load(); last != nil {
		report := proto.CloneOf(last)
		report.Edges = p.edgeReports()
		p.show(report)
	}
}

func (p *placement) edgeReports() []*api.EdgeReport {
	if shown := p.edges.shown.Load(); shown != nil {
		return *shown
	}
	return nil
}

func (p *placement) lookAtEdge(ctx context.Context, w *wish, edge *api.EdgeLook, as string) edgeLook {
	look := edgeLook{as: as, next: p.e.Now().Add(edgeAgain + rand.N(edgeAgain/4))}
	seen, err := p.shakeEdge(ctx, w, edge)
	if err != nil {
		p.e.Log.Warn("an edge could not be looked at", "placement", p.id, "server", edge.GetServer(), "address", edge.GetAddress(), "error", err.Error())
		return look
	}
	if verdict, words := probe.JudgeEdge(seen); verdict == probe.EdgeFits {
		look.next = p.e.Now().Add(edgeEvery + rand.N(edgeEvery/4))
	} else {
		p.e.Log.Warn("an edge does not fit", "placement", p.id, "server", edge.GetServer(), "verdict", string(verdict), "words", words)
	}
	statement, err := seen.Statement()
	if err != nil || p.e.Sign == nil {
		return look
	}
	signed, err := p.e.Sign(statement)
	if err != nil {
		p.e.Log.Error("sign evidence", "placement", p.id, "error", err.Error())
		return look
	}
	look.report = &api.EdgeReport{Server: edge.GetServer(), Address: edge.GetAddress(), Evidence: signed}
	return look
}

// shakeEdge shakes hands once, as the client's process would.
func (p *placement) shakeEdge(ctx context.Context, w *wish, edge *api.EdgeLook) (probe.Observation, error) {
	spec, err := p.edgeSpec(w, edge)
	if err != nil {
		return probe.Observation{}, err
	}
	seen, err := probe.Handshake(ctx, spec)
	seen.Bundle = spec.Roots.Digest().String()
	return seen, err
}

// edgeSpec is how the client's process would shake hands with the revision in
// use.
func (p *placement) edgeSpec(w *wish, edge *api.EdgeLook) (probe.Spec, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.record.Revision(p.record.Loaded)
	if v == nil {
		v = p.record.Standing()
	}
	if v == nil {
		return probe.Spec{}, fault.New(fault.NotFound, "placement %s has no revision in use", p.id)
	}
	b, err := p.drawer.bundle(v.Bundle)
	if err != nil {
		return probe.Spec{}, err
	}
	var c *credential
	if v.Generation != 0 {
		if c, err = p.drawer.credential(*v); err != nil {
			return probe.Spec{}, err
		}
	}
	spec := p.spec(w, c, b)
	spec.Address, spec.ServerName, spec.Preamble = edge.GetAddress(), edge.GetServerName(), probe.Preamble(edge.GetPreamble())
	if adapter, err := target.Lookup(fleet.TargetKind(edge.GetKind())); err == nil && spec.Preamble == "" {
		spec.Preamble = adapter.Preamble
	}
	spec.ReadAcceptance, spec.Timeout = spec.Certificate != nil, edgeTimeout
	return spec, nil
}
