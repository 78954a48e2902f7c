package agent

import (
	"context"
	"crypto"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/admission"
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
)

// request saves a key and a number, then asks for the certificate. The server
// answers the same key for the same number with the same certificate, so that
// it may be asked any number of times.
func (p *placement) request(ctx context.Context, w *wish, s rotation.Step) error {
	if p.record.Generation(s.Generation) == nil {
		if err := p.reserve(w, s); err != nil {
			return err
		}
	}
	key, err := p.drawer.key(s.Generation)
	if err != nil { // lost: the number was perhaps asked for, and is spent
		return p.spoil(w, s.Generation, err)
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return err
	}
	result, err := p.e.issue(ctx, &api.PlacementRequest{PlacementId: p.id, Generation: s.Generation, Csr: csr}, p.expiring())
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return p.setBack(w, rotation.Request, s.Generation, err, passing(err))
	}
	p.e.reached("request: issued")
	return p.take(w, s.Generation, key, result)
}

// expiring says whether what stands is within the last tenth of its life, so
// that a server lets its successor in before all others.
func (p *placement) expiring() bool {
	standing := p.record.Standing()
	if standing == nil {
		return false
	}
	g := p.record.Generation(standing.Generation)
	if g == nil || g.Leaf == nil {
		return false
	}
	return admission.Ask{IssuedAt: g.Leaf.NotBefore, NotAfter: g.Leaf.NotAfter}.Class(p.e.Now()) == admission.Expiring
}

// reserve makes the generation: its key first, then its number.
func (p *placement) reserve(w *wish, s rotation.Step) error {
	now := p.e.Now()
	g := rotation.Generation{Number: s.Generation, Algorithm: string(w.algorithm), KeyBorn: now, AskedAt: now, Wanted: w.desired.Terms}
	var key crypto.Signer
	var err error
	if from := p.record.Generation(s.KeyOf); !s.NewKey && from != nil {
		g.KeyBorn = from.KeyBorn
		key, err = p.drawer.key(s.KeyOf)
	}
	if key == nil || err != nil { // none to keep, or it was lost
		g.KeyBorn = now
		if key, err = w.algorithm.Generate(); err != nil {
			return err
		}
	}
	if err := p.drawer.reserve(); err != nil {
		return err
	}
	if err := p.drawer.saveKey(s.Generation, key); err != nil {
		return err
	}
	p.e.reached("request: key saved")
	if err := p.change(func(r *record) { r.Ask(g) }); err != nil {
		return err
	}
	p.e.reached("request: number reserved")
	return nil
}

// take records what the server answered.
func (p *placement) take(w *wish, generation uint64, key crypto.Signer, result *api.IssueResult) error {
	if code := fault.Code(result.GetErrorCode()); code != "" {
		err := fault.New(code, "%s", result.GetError()).WithAfter(min(result.GetRetryAfter().AsDuration(), longestRetry))
		if code == fault.Conflict { // the number was used, with another key
			return p.spoil(w, generation, err)
		}
		return p.setBack(w, rotation.Request, generation, err, passing(err))
	}
	chain, err := pki.ParseChainDER(result.GetChain())
	if err == nil && !pki.KeyMatches(key, chain.Leaf) {
		err = fault.New(fault.Invalid, "the certificate that the server sent is for another key")
	}
	var leaf rotation.Leaf
	if err == nil {
		leaf, err = leafOf(chain.Leaf)
	}
	if err == nil && !p.e.Now().Before(leaf.NotAfter) {
		err = fault.New(fault.Invalid, "the certificate that the server sent ran out at %s", leaf.NotAfter.UTC().Format(time.RFC3339)).
			WithRemedy("compare the server's clock with this host's")
	}
	if err != nil {
		return p.spoil(w, generation, err)
	}
	if err := p.drawer.saveChain(generation, chain); err != nil {
		return err
	}
	p.e.reached("request: chain saved")
	return p.changeSoon(func(r *record) { r.Issue(generation, leaf) })
}

// spoil records that a generation will never do; another one is asked for
// after a pause.
func (p *placement) spoil(w *wish, generation uint64, err error) error {
	if err := p.change(func(r *record) { r.Refuse(generation, err.Error()) }); err != nil {
		return err
	}
	return p.setBack(w, rotation.Request, generation, err, false)
}

// Limits of one call for certificates.
const (
	maxIssue     = 256
	issueTimeout = 30 * time.Second
)

type issueCall struct {
	request  *api.PlacementRequest
	expiring bool
	answer   chan<- issueAnswer // of capacity one
}

type issueAnswer struct {
	result *api.IssueResult
	err    error
}

// issue asks for one certificate. While a call is under way, requests gather
// and go together in the next.
func (e *Executor) issue(ctx context.Context, request *api.PlacementRequest, expiring bool) (*api.IssueResult, error) {
	answer := make(chan issueAnswer, 1)
	select {
	case e.issues <- issueCall{request, expiring, answer}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case a := <-answer:
		return a.result, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// issueLane has one call under way at a time.
type issueLane struct {
	waiting []issueCall
	busy    bool
}

// issueAll gathers requests while a call is under way. A call is answered whole,
// once a server that has much to do has let in all of it; so what expires has a
// lane of its own.
func (e *Executor) issueAll(ctx context.Context) {
	lanes := map[bool]*issueLane{true: {}, false: {}}
	done := make(chan *issueLane, len(lanes))
	for {
		for _, lane := range lanes {
			if len(lane.waiting) > 0 && !lane.busy {
				calls := lane.waiting[:min(len(lane.waiting), maxIssue)]
				lane.waiting = append([]issueCall(nil), lane.waiting[len(calls):]...)
				lane.busy = true
				go func() {
					e.issueSome(ctx, calls)
					done <- lane
				}()
			}
		}
		select {
		case call := <-e.issues:
			lane := lanes[call.expiring]
			lane.waiting = append(lane.waiting, call)
		case lane := <-done:
			lane.busy = false
		case <-ctx.Done():
			for lanes[true].busy || lanes[false].busy {
				(<-done).busy = false
			}
			return
		}
	}
}

func (e *Executor) issueSome(ctx context.Context, calls []issueCall) {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	requests := make([]*api.PlacementRequest, len(calls))
	for i, call := range calls {
		requests[i] = call.request
	}
	results, err := e.Issue(ctx, requests)
	if err == nil && len(results) != len(requests) {
		err = fmt.Errorf("%d answers to %d requests", len(results), len(requests))
	}
	for i, call := range calls {
		if err != nil {
			call.answer <- issueAnswer{err: fault.Wrap(fault.Unavailable, err, "ask for a certificate")}
			continue
		}
		call.answer <- issueAnswer{result: results[i]}
	}
}
