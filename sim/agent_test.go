package sim

import (
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/schedule"
)

// placement is a placement's agent: it asks rotation what comes next, and each
// step takes its time.
type placement struct {
	*fleetSim
	id      string
	member  schedule.Member
	cluster *cluster // nil: none
	profile *fleet.Profile

	record  rotation.Record
	current uint64
	d       rotation.Desired
	seq     int  // of the newest desired state that was taken
	busy    bool // a step is under way
	alarm   int  // counts the wake-ups that were set; the newest counts
	asks    uint64
	told    report // what the server was told last, or is being told
	heard   bool   // and it has heard that

	renewals []renewal
	pending  renewal
}

// renewal is one new generation after the first.
type renewal struct {
	due, requested, committed time.Time
	forced                    bool          // an operator asked for it
	left                      time.Duration // of the one before, when this was committed
}

// wake carries on until there is something to wait for.
func (p *placement) wake() {
	if p.busy {
		return
	}
	for {
		step := rotation.Next(rotation.Facts{Record: p.record, Current: p.current}, p.d, p.now)
		if step.Action == rotation.Wait {
			p.rest(step)
			return
		}
		p.asks = 0
		took := p.begin(step)
		if took == 0 {
			p.finish(step)
			continue
		}
		p.busy = true
		p.report()
		p.after(took, func() {
			p.busy = false
			p.finish(step)
			p.wake()
		})
		return
	}
}

// rest waits for a time, or for a change of what is desired.
func (p *placement) rest(step rotation.Step) {
	p.asks = step.AsksSlot
	p.report()
	if step.Until.IsZero() {
		return
	}
	if !step.Until.After(p.now) {
		p.t.Fatalf("%s waits for %s, which is over: %s", p.id, step.Until, step.Reason)
	}
	p.alarm++
	alarm := p.alarm
	p.at(step.Until, func() {
		if alarm == p.alarm {
			p.wake()
		}
	})
}

// begin does what a step does at its beginning, and says how long it takes.
func (p *placement) begin(s rotation.Step) time.Duration {
	switch s.Action {
	case rotation.Request:
		p.ask(s)
		return p.between(50*time.Millisecond, 2*time.Second)
	case rotation.Stage:
		return p.between(5*time.Millisecond, 100*time.Millisecond)
	case rotation.Check:
		return p.between(50*time.Millisecond, 500*time.Millisecond)
	case rotation.Activate:
		if s.Begins.Revision != 0 {
			p.record.Begin(s.Begins)
			p.leave(s.Begins.ID == "")
		}
		p.record.Switch(s.Revision, p.now)
		p.current = s.Revision
		return p.between(100*time.Millisecond, 30*time.Second) // a reload, or a restart
	case rotation.Prove, rotation.Release:
		return p.between(300*time.Millisecond, 3*time.Second)
	}
	return 0
}

func (p *placement) finish(s rotation.Step) {
	r := &p.record
	switch s.Action {
	case rotation.Request:
		p.answered(s)
	case rotation.Stage:
		r.Stage(rotation.Revision{Number: s.Revision, Generation: s.Generation, Bundle: s.Bundle, StagedAt: p.now})
	case rotation.Check:
		r.Check(s.Revision)
	case rotation.Activate:
		r.Load(s.Revision)
	case rotation.Prove:
		r.Prove(s.Revision)
	case rotation.Commit:
		p.committed(s)
	case rotation.Release:
		r.LetGo()
		p.back()
	case rotation.Remove:
		r.Remove(s.Revision)
	case rotation.DestroyKey:
		r.Destroy(s.Generation)
	default:
		p.t.Fatalf("%s: nothing fails here, and yet: %s: %s", p.id, s.Action, s.Reason)
	}
}

func (p *placement) ask(s rotation.Step) {
	if p.record.Generation(s.Generation) != nil {
		return
	}
	if standing := p.record.Standing(); standing != nil {
		before := p.record.Generation(standing.Generation)
		p.pending = renewal{
			due: p.d.RenewAt(*before), requested: p.now,
			forced: before.Number <= p.d.RenewThrough && !p.now.Before(p.d.RenewFrom),
		}
		if p.pending.forced {
			p.pending.due = p.d.RenewFrom
		}
	}
	p.record.Ask(rotation.Generation{Number: s.Generation, Algorithm: p.d.Algorithm, KeyBorn: p.now, AskedAt: p.now, Wanted: p.d.Terms})
}

// answered is the end of a request: a certificate, or nobody was reached.
func (p *placement) answered(s rotation.Step) {
	if p.down() || p.lost() {
		p.record.SetBack(rotation.Request, s.Generation, "no server answers", true, p.d, p.now)
		return
	}
	p.issued++
	life := p.profile.Lifetime.Std()
	leaf := rotation.Leaf{Serial: fmt.Sprint(s.Generation), Terms: p.d.Terms, NotBefore: p.now.Add(-p.profile.Backdate.Std()), NotAfter: p.now.Add(life)}
	p.record.Issue(s.Generation, leaf)
	p.issuedTo(p, s.Generation, p.now, leaf.NotAfter)
}

func (p *placement) committed(s rotation.Step) {
	standing := p.record.Standing()
	p.record.Commit(s.Revision, p.now)
	if standing == nil {
		return
	}
	p.pending.committed = p.now
	p.pending.left = p.record.Generation(standing.Generation).Leaf.NotAfter.Sub(p.now)
	p.renewals = append(p.renewals, p.pending)
}

// leave and back count who of a cluster is out of its steady state.
func (p *placement) leave(alone bool) {
	if alone {
		p.alone++
	} else {
		p.slots++
	}
	if p.cluster.away++; p.cluster.away > 1 {
		p.together++
	}
}

func (p *placement) back() { p.cluster.away-- }

func wanted(p *placement) rotation.Desired {
	return rotation.Desired{
		Placement: p.id, Identity: true, Algorithm: "ecdsa-p256", Terms: "terms", Bundle: pki.BundleDigest{1},
		RideOut: p.profile.RideOut.Std(), Grace: p.profile.Grace.Std(), NeedsSlot: p.cluster != nil,
	}
}
