package agent

import (
	"context"
	"errors"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/target"
)

// How long a target may take to answer on its control path, the longer where a
// program has to start for that (rabbitmqctl starts a node of its own); and how
// often it is asked again: for an administrator's mistake to be mended, for a
// process to be started.
const (
	contactTimeout = 10 * time.Second
	programTimeout = 30 * time.Second
	firstAgain     = time.Second
	longestAgain   = time.Minute
)

// patience is how long a look over a target's control path may take.
func patience(t target.Target) time.Duration { return max(contactTimeout, programPatience(t)) }

// programPatience is what a target's own tool takes, where there is one.
func programPatience(t target.Target) time.Duration {
	if t.Control != nil && t.Control.Program != "" {
		return programTimeout
	}
	return 0
}

// contact is what answered on a target's control path when it was last looked
// at. It is not kept over a restart: agent.yaml may be another then.
type contact struct {
	with    string // which target, by its intent; empty: not looked yet
	product string
	err     error
	count   int       // of errors in a row
	again   time.Time // zero: there is no need to look again
}

// wrong is what an administrator has to mend before anything may be begun; nil
// where all is well, or the process does not run.
func (c contact) wrong() error {
	if c.err == nil || absent(c.err) {
		return nil
	}
	return c.err
}

// absent says whether nothing answered, which is nobody's mistake.
func absent(err error) bool {
	return fault.CodeOf(err) == fault.Unavailable || errors.Is(err, context.DeadlineExceeded)
}

// greet looks at the control path as soon as a target is named, before a
// certificate is asked for; and again for as long as nothing good answers.
func (p *placement) greet(ctx context.Context, w *wish) {
	if w.bare || w.desired.Orphan {
		return
	}
	due := p.contact.with != w.targetKey() || (!p.contact.again.IsZero() && !p.e.Now().Before(p.contact.again))
	if due {
		_ = p.meet(ctx, w) // kept in p.contact, and shown
	}
}

func (w *wish) targetKey() string {
	return string(w.adapter.Kind) + "/" + w.target.Name + "/" + w.files.directory
}

// meet looks at the control path now.
func (p *placement) meet(ctx context.Context, w *wish) error {
	seen, err := p.ask(ctx, w)
	if ctx.Err() != nil {
		return err
	}
	if p.contact.with != w.targetKey() {
		p.contact = contact{with: w.targetKey()}
	}
	if p.contact.err = err; err == nil {
		p.contact.product, p.contact.count, p.contact.again = seen.String(), 0, time.Time{}
		return nil
	}
	pause := longestAgain
	if p.contact.wrong() != nil {
		pause = min(firstAgain<<min(p.contact.count, 6), longestAgain)
	}
	p.contact.count++
	p.contact.again = p.e.Now().Add(pause)
	return err
}

func (p *placement) ask(ctx context.Context, w *wish) (target.Contact, error) {
	t, err := p.reach(w)
	if err != nil || t.Control == nil {
		return target.Contact{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience(t))
	defer cancel()
	return w.adapter.Contact(ctx, p.e.Host.targetHost(), t)
}

// found is what the last look before a switch found of the process.
type found struct {
	revision uint64
	at       time.Duration // by the executor's own clock
	away     bool          // it does not run, or can't be told
	well     bool          // the member is in its steady state
}

// For so long a look before the switch holds.
const lookHolds = 5 * time.Second

// lookAhead sees to it that a switch can come to something, before anything is
// touched. What is about to run out is switched though nothing answers, or the
// control path is set up wrongly: the next start is to find good files.
func (p *placement) lookAhead(ctx context.Context, w *wish, v rotation.Revision) (found, error) {
	seen := found{revision: v.Number, at: p.e.elapsed()}
	stands := p.record.Standing()
	urgent := p.record.Urgent(w.desired, p.e.Now())
	err := p.meet(ctx, w)
	switch {
	case err == nil:
	case !urgent && (p.contact.wrong() != nil || stands != nil):
		return seen, err
	default:
		seen.away = true
		return seen, nil
	}
	if stands == nil || !w.member() {
		return seen, nil
	}
	err = p.health(ctx, w, *stands)
	seen.well = err == nil
	if err == nil {
		return seen, nil
	}
	if !urgent {
		return seen, fault.Wrap(fault.Unavailable, err, "nothing is switched while the member of cluster %s is not well", w.cluster)
	}
	seen.away = p.unreachable(ctx, w, *stands)
	return seen, nil
}

// member says whether others would miss the target.
func (w *wish) member() bool { return w.cluster != "" }

// health says whether the target is in its steady state, with the revision.
func (p *placement) health(ctx context.Context, w *wish, v rotation.Revision) error {
	t, err := p.reach(w)
	if err != nil {
		return err
	}
	spec, err := p.lookSpec(w, v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience(t))
	defer cancel()
	return w.adapter.Health(ctx, p.e.Host.targetHost(), t, spec)
}

// unreachable says whether nothing answers at the target's address.
func (p *placement) unreachable(ctx context.Context, w *wish, v rotation.Revision) bool {
	spec, err := p.lookSpec(w, v)
	if err != nil || spec.Address == "" {
		return false
	}
	seen, err := probe.Handshake(ctx, spec)
	return err == nil && seen.Outcome.PathBlocked()
}

// lookSpec is how to shake hands with a process that has the revision.
func (p *placement) lookSpec(w *wish, v rotation.Revision) (probe.Spec, error) {
	c, err := p.drawer.credential(v)
	if err != nil {
		return probe.Spec{}, err
	}
	b, err := p.drawer.bundle(v.Bundle)
	if err != nil {
		return probe.Spec{}, err
	}
	spec := p.spec(w, c, b)
	for _, known := range p.canaries.list {
		if spec.Certificate == nil && holds(b, known.anchor) && p.e.elapsed()-p.canaries.since < canaryFor {
			spec.Certificate = &known.certificate // what a client of its would show
		}
	}
	return spec, nil
}

// convalesce waits until a member is well again after the switch, for as long
// as a proof may take. What the proof took is no part of that, and a look that
// was begun in time has its own.
func (p *placement) convalesce(ctx context.Context, w *wish, v rotation.Revision) error {
	waiting, cancel := context.WithTimeout(ctx, w.proof.timeout)
	defer cancel()
	pause := 20 * time.Millisecond
	for {
		err := p.health(ctx, w, v)
		if err == nil {
			p.wellAt = found{revision: v.Number, at: p.e.elapsed(), well: true}
			return nil
		}
		if wait(waiting, pause, nil) != nil {
			return fault.Wrap(fault.Conflict, err, "the member of cluster %s was well before the switch and is not since", w.cluster)
		}
		pause = min(2*pause, 500*time.Millisecond)
	}
}
