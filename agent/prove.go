package agent

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/rotation"
)

// prove sees to it that the process has the revision, at the level that the
// intent asks for.
func (p *placement) prove(ctx context.Context, w *wish, s rotation.Step) error {
	v := *p.record.Revision(s.Revision)
	level, problem := p.record.Level, error(nil)
	var look *probe.Observation
	switch {
	case w.proof.level == api.Level_LEVEL_PROVEN && v.Generation != 0:
		look, problem = p.observe(ctx, w, v)
		p.e.reached("prove: observed")
		level = api.Level_LEVEL_PROVEN
	case w.proof.level == api.Level_LEVEL_LOADED && level < api.Level_LEVEL_LOADED:
		problem = fault.New(fault.Conflict, "the intent asks for level loaded, and no command of target %s said that it loaded", w.target.Name).
			WithRemedy("name a reloadCommand in intent %s, or ask for level delivered", w.intent)
	}
	disobeys, served := errors.AsType[servesRevoked](problem)
	if served {
		problem = nil
	}
	if problem == nil && v.Well && !v.Committed() {
		problem = p.convalesce(ctx, w, v)
	}
	seen, err := p.testify(ctx, w, look)
	if err != nil && problem == nil {
		problem = err
	}
	if ctx.Err() != nil {
		return nil // stopped in the middle: nothing was shown either way
	}
	if problem != nil {
		if seen != nil {
			p.record.Observed = seen // goes with the failure that it is of
		}
		return p.failed(w, rotation.Prove, v, problem)
	}
	if p.contact.err != nil && absent(p.contact.err) {
		p.contact.again = p.e.Now() // it runs now
	}
	if p.record.Pending != "" {
		level = min(level, api.Level_LEVEL_DELIVERED)
	}
	owing := look != nil && w.tries() && p.canaries.err != nil && p.e.Canaries != nil
	lists := refusesRevoked(look)
	shown := func(r *record) {
		r.show(v.Number, level, seen, owing)
		r.obeys(lists)
		r.Sessions = r.unrefused(look)
	}
	switch {
	case v.Committed() && served:
		return p.disobeyed(w, v, seen, disobeys)
	case v.Committed():
		return p.change(func(r *record) {
			shown(r)
			if r.Failure != nil && !r.Failure.Restored {
				r.Failure.Restored = true
				r.Restores++
			}
		})
	}
	// What comes next is the commit, whatever else is desired: it is one fact.
	p.e.reached("prove: shown")
	err = p.stand(w, v, shown)
	if err == nil && served {
		err = p.disobeyed(w, v, seen, disobeys)
	}
	return err
}

// obeys notes that the process refuses what its CRLs list.
func (r *record) obeys(seen bool) {
	if seen {
		r.CRLLevel = api.Level_LEVEL_PROVEN
	}
	if r.Failure != nil && r.Failure.Lists {
		r.Failure = nil
	}
}

// show notes that the process was seen with the revision, and whether its trust
// is still to be tried.
func (r *record) show(revision uint64, level api.Level, seen *evidence, owing bool) {
	r.Prove(revision)
	if r.Untried = 0; owing {
		r.Untried = revision
	}
	if r.Level = level; seen != nil {
		r.Observed = seen
	}
}

// observe shakes hands with the process until it is proven to serve the
// revision, or is not.
func (p *placement) observe(ctx context.Context, w *wish, v rotation.Revision) (*probe.Observation, error) {
	c, err := p.drawer.credential(v)
	if err != nil {
		return nil, err
	}
	b, err := p.drawer.bundle(v.Bundle)
	if err != nil {
		return nil, err
	}
	expected := p.expectation(w, c, b)
	var none error
	expected.Trials, expected.MustAccept, none = p.trials(ctx, w, v, c, b)
	tickets, results := p.offers(w, b)
	if len(expected.Trials) > 0 {
		expected.Tickets = tickets
	}
	verdict, observations := probe.Prove(ctx, expected)
	var seen *probe.Observation
	if len(observations) > 0 {
		seen = &observations[len(observations)-1]
		untried(seen, none)
		for _, ticket := range tickets[min(len(seen.Tickets), len(tickets)):] {
			results = append(results, ticket.Unoffered())
		}
		seen.Tickets = append(seen.Tickets, results...)
	}
	switch {
	case verdict.Proven:
		return seen, nil
	case verdict.Cause == probe.CauseRevoked:
		return seen, p.servedRevoked(verdict.Reason)
	case verdict.Cause == probe.CausePath:
		return seen, fault.New(fault.Unavailable, "%s", verdict.Reason)
	}
	return seen, errors.New(verdict.Reason)
}

// spec is how to shake hands with a process that has the credential.
func (p *placement) spec(w *wish, c *credential, b pki.Bundle) probe.Spec {
	spec := probe.Spec{
		Address: w.target.Address, ServerName: w.target.ServerName, Preamble: w.target.Preamble,
		Roots: b, Observer: p.e.AgentID, Now: p.e.Now,
	}
	if c != nil && slices.Contains(w.usages, x509.ExtKeyUsageClientAuth) {
		spec.Certificate = &tls.Certificate{Certificate: c.chain.DER(), PrivateKey: c.key, Leaf: c.chain.Leaf}
	}
	return spec
}

func (p *placement) expectation(w *wish, c *credential, b pki.Bundle) probe.Expectation {
	expected := probe.Expectation{
		Spec: p.spec(w, c, b), Known: map[pki.Fingerprint]string{},
		MinProtocol: w.proof.minVersion, Groups: w.proof.groups, ClientAuth: w.proof.clientAuth,
		Observe: w.proof.observe, Timeout: w.proof.timeout, Immediate: w.adapter.Proof.Immediate,
	}
	for _, der := range c.chain.DER() {
		expected.Chain = append(expected.Chain, pki.FingerprintOf(der))
	}
	for _, g := range p.record.Generations {
		if chain, err := p.drawer.chain(g.Number); err == nil {
			expected.Known[pki.FingerprintOf(chain.Leaf.Raw)] = fmt.Sprintf("generation %d", g.Number)
		}
	}
	return expected
}

// testify makes evidence of an observation, with the server's own word. That
// has a time of its own: a slow tool is no reason to doubt a proof.
func (p *placement) testify(ctx context.Context, w *wish, seen *probe.Observation) (*evidence, error) {
	e := p.e
	if e.Sign == nil || seen == nil || ctx.Err() != nil {
		return nil, nil
	}
	seen.Says = p.says(ctx, w)
	statement, err := seen.Statement()
	if err != nil {
		return nil, err
	}
	signed, err := e.Sign(statement)
	if err != nil {
		return nil, fmt.Errorf("sign evidence: %w", err)
	}
	return &evidence{signed.GetStatement(), signed.GetSignature(), signed.GetObserver()}, nil
}

func (v *evidence) message() *api.Evidence {
	if v == nil {
		return nil
	}
	return &api.Evidence{Statement: v.Statement, Signature: v.Signature, Observer: v.Observer}
}

func (v *evidence) digest() []byte {
	if v == nil {
		return nil
	}
	sum := sha256.Sum256(v.Statement)
	return sum[:]
}

// commit records that the revision stands, where that was proven and is not
// recorded yet.
func (p *placement) commit(_ context.Context, w *wish, s rotation.Step) error {
	return p.stand(w, *p.record.Revision(s.Revision), func(*record) {})
}

// stand records that a revision stands, with what else is known by now.
func (p *placement) stand(w *wish, v rotation.Revision, do func(*record)) error {
	now := p.e.Now()
	if stood := p.record.Standing(); !v.CRL.None() && (stood == nil || stood.CRL.None()) {
		p.contact.again = now // whether it reads them can be seen from now on
	}
	began := v.StagedAt
	if g := p.record.Generation(v.Generation); g != nil && p.untried(g.Number, v.Number) {
		began = g.AskedAt
	}
	err := p.change(func(r *record) {
		do(r)
		r.Commit(v.Number, now)
		p.remember(r, v)
		if r.Setback == nil { // else it is of a newer certificate, which waits
			r.Failure = nil
		}
		r.Committed, r.Took = now, max(now.Sub(began), 0)
		r.Rotations++
	})
	if err == nil {
		p.e.Log.Info("rotation committed", "placement", p.id, "intent", w.intent, "generation", v.Generation, "revision", v.Number, "took", p.record.Took.Round(time.Millisecond).String())
	}
	return err
}

// untried says whether no other revision held the generation.
func (p *placement) untried(generation, except uint64) bool {
	return !slices.ContainsFunc(p.record.Revisions, func(r rotation.Revision) bool {
		return r.Generation == generation && r.Number != except
	})
}

// remove deletes the directory of a revision that nothing needs.
func (p *placement) remove(_ context.Context, _ *wish, s rotation.Step) error {
	l, err := openLayout(p.e.Host, p.record.Directory, p.owner(), false)
	if err != nil {
		return err
	}
	if l != nil {
		defer l.close()
		if err := durable.RemoveAll(l.root, revName(s.Revision)); err != nil {
			return err
		}
	}
	p.e.reached("remove: deleted")
	err = p.change(func(r *record) {
		r.Remove(s.Revision)
		delete(r.Files, s.Revision)
	})
	if err != nil {
		return err
	}
	return p.drawer.sweep(&p.record)
}

// destroyKey deletes the key of a generation that no revision holds.
func (p *placement) destroyKey(_ context.Context, w *wish, s rotation.Step) error {
	if err := p.drawer.destroy(s.Generation); err != nil {
		return err
	}
	p.e.reached("destroy-key: deleted")
	p.e.Log.Info("key destroyed", "placement", p.id, "intent", w.intent, "generation", s.Generation)
	return p.change(func(r *record) {
		r.Destroy(s.Generation)
		r.Destroyed = append(r.Destroyed, destroyed{s.Generation, p.e.Now().UTC()})
		r.Destroyed = r.Destroyed[max(0, len(r.Destroyed)-mostDestroyed):]
	})
}
