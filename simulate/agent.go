package simulate

import (
	"time"

	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/whatif"
)

// state is how far a placement is with what it has to do.
type state uint8

const (
	idle    state = iota
	staging       // it requests and stages
	held          // all is there: its intent's breaker is open, or it waits for a slot
	working       // it was switched, and is looked at
	pausing       // it failed, and rests
)

// What a step takes on a host that is not slow, beside what whatif goes by.
const (
	leastStage, mostStage   = 500 * time.Millisecond, 5 * time.Second
	leastReload, mostReload = time.Second, 5 * time.Second
	identitiesOver          = 10 * time.Minute // agents renew their own
)

func (w *world) hostHappens(e event) {
	h := &w.hosts[e.who]
	switch e.what {
	case onLeave:
		h.away = true
		w.push(w.mean(w.o.AwayFor), onReturn, e.who, 0)
		w.planner.presence(e.who)
	case onReturn:
		h.away = false
		w.push(w.mean(w.here()), onLeave, e.who, 0)
		w.planner.presence(e.who)
		for p := h.first; p < h.first+h.count; p++ {
			if w.places[p].silent {
				w.places[p].silent = false
				w.report1(p)
			}
			if at := &w.places[p]; at.state == held && at.cluster >= 0 {
				w.decide(&w.clusters[at.cluster]) // it can be told to go again
			}
		}
		w.tell(e.who)
	case onTold:
		if h.away {
			return // it hears of it when it is back
		}
		h.anchors, h.unbridge = w.anchors, w.unbridge
		if h.adopted != h.anchors {
			if h.anchors&newAnchor != 0 && h.adopted&newAnchor == 0 {
				w.agents--
			}
			h.adopted = h.anchors
			w.planner.hostSaid(e.who)
		}
		if h.under != w.signs {
			w.after(w.between(0, identitiesOver), onIdentity, e.who, 0)
		}
		for p := h.first; p < h.first+h.count; p++ {
			w.consider(p)
		}
	case onIdentity:
		if !h.away && h.under != w.signs {
			h.under = w.signs
			w.issue()
			w.signed(w.signs, "agent "+hostName(e.who))
			w.planner.hostSaid(e.who)
		}
	}
}

// tell lets a host hear what is desired, soon.
func (w *world) tell(h int32) {
	w.after(w.takes(h, 300*time.Millisecond, whatif.DeliverTime/3), onTold, h, 0)
}

// tellAll is tell for each that is connected.
func (w *world) tellAll() {
	for h := range w.hosts {
		if !w.hosts[h].away {
			w.tell(int32(h))
		}
	}
}

func (w *world) placeHappens(e event) {
	p := &w.places[e.who]
	if (e.what == onRenew || e.what == onExpire) && p.generation != e.tag {
		return
	}
	switch e.what {
	case onRenew, onAsked:
		p.due = true
		w.consider(e.who)
	case onExpire:
		w.report.Expired++
		if p.live {
			p.live = false
			w.services[w.intents[p.intent].service].old--
			w.planner.reported(e.who)
		}
	case onAgain:
		if p.state == pausing {
			p.state = idle
			w.consider(e.who)
		}
	case onStaged:
		w.staged(e.who)
	case onDone:
		w.done(e.who)
	case onHand:
		p.hand = false
		w.report.now().Restarts++
		w.report.now().ByHand++
		w.take(e.who, p.given, p.leaf)
		w.planner.reported(e.who)
	}
}

// consider begins what a placement has to do, if it can.
func (w *world) consider(p int32) {
	at, h := &w.places[p], &w.hosts[w.places[p].host]
	bundle := at.given != h.anchors
	bridge := at.bridge && h.unbridge
	if at.state != idle || h.away || at.hand || !at.due && !bundle && !bridge {
		return
	}
	at.state, at.leaf, at.next = staging, at.due && w.intents[at.intent].profile != nil, h.anchors
	w.after(w.takes(at.host, leastStage, mostStage), onStaged, p, 0)
}

// staged: the certificate is there, if it needs one.
func (w *world) staged(p int32) {
	at := &w.places[p]
	if w.hosts[at.host].away {
		at.state = idle
		return
	}
	if at.leaf {
		at.issued = w.signs
		w.issue()
		w.signed(w.signs, w.placeName(p))
	}
	at.state = held
	w.go1(p)
}

// go1 switches a placement, if neither breaker nor cluster hold it.
func (w *world) go1(p int32) {
	at := &w.places[p]
	in := &w.intents[at.intent]
	switch {
	case in.broken > 0 && !at.failed:
		in.waiting = append(in.waiting, p)
	case at.cluster >= 0:
		w.ask(p)
	default:
		w.activate(p)
	}
}

// activate switches. What comes of it is known when it was looked at.
func (w *world) activate(p int32) {
	at := &w.places[p]
	in := &w.intents[at.intent]
	at.state = working
	adds, drops := at.next&^at.given&newAnchor != 0, at.given&^at.next&oldAnchor != 0
	needs := adds && in.means.AddAtRestart || drops && in.means.DropAtRestart || at.leaf && in.means.LeafAtRestart
	at.restarts, at.hand = needs && in.means.Restart != "", needs && in.means.Restart == ""
	least, most := leastReload, mostReload
	if at.restarts {
		w.report.now().Restarts++
		least, most = whatif.RestartTime/2, whatif.RestartTime*3/2
	}
	w.after(w.takes(at.host, least, most), onDone, p, 0)
}

// done is the end of an attempt.
func (w *world) done(p int32) {
	at := &w.places[p]
	in := &w.intents[at.intent]
	lies := w.random.Float64() < w.o.Rates.Lie
	provable := in.provable && at.leaf || in.needs == "proven" && at.next != at.given
	switch {
	case w.random.Float64() < w.o.Rates.Fail, lies && provable:
		if lies && provable {
			w.report.LiesSeen++
		}
		w.failed(p)
	default:
		if lies {
			w.report.LiesUnseen++
			w.report.now().Unseen++
		}
		w.succeeded(p)
	}
	if w.hosts[at.host].away {
		at.silent = true // it says so when it is back; a slot is held until then
		return
	}
	w.report1(p)
}

// failed: what stood is back, and the intent's breaker open.
func (w *world) failed(p int32) {
	at := &w.places[p]
	in := &w.intents[at.intent]
	w.report.now().Failures++
	if !at.failed {
		if at.failed = true; in.broken == 0 {
			in.breakers++
			w.report.opened(string(in.name))
		}
		in.broken++
	}
	at.state, at.hand = pausing, false
	if at.tries < 200 {
		at.tries++
	}
	w.after(rotation.Pause(int(at.tries)), onAgain, p, 0)
}

func (w *world) succeeded(p int32) {
	at := &w.places[p]
	in := &w.intents[at.intent]
	at.state, at.tries = idle, 0
	at.given = at.next
	if h := w.hosts[at.host]; h.unbridge && at.bridge {
		at.bridge = false
		w.bridging--
	}
	if at.hand { // the files are there: a person has to restart the process
		w.after(w.between(w.o.ByHand/2, w.o.ByHand*3/2), onHand, p, 0)
	} else {
		w.take(p, at.next, at.leaf)
	}
	if at.failed {
		at.failed = false
		if in.broken--; in.broken == 0 {
			waiting := in.waiting
			in.waiting = nil
			for _, one := range waiting {
				if w.places[one].state == held {
					w.go1(one)
				}
			}
		}
	}
}

// take: the process has it.
func (w *world) take(p int32, has anchors, leaf bool) {
	at := &w.places[p]
	in := &w.intents[at.intent]
	if has&newAnchor != 0 && at.trusts&newAnchor == 0 {
		w.services[in.service].blind--
	}
	w.dropsOld(at.trusts, has, in.service, p)
	at.trusts = has
	if !leaf {
		return
	}
	w.report.now().Renewals++
	at.generation++
	at.due = false
	at.under = at.issued
	if at.under == 1 {
		w.leafUnderNew(p)
		if at.live {
			at.live = false
			w.services[in.service].old--
		}
		if !at.bridge && w.bridges() {
			at.bridge = true
			w.bridging++
		}
	} else if !at.live {
		at.live = true
		w.services[in.service].old++
	}
	at.notAfter = w.now + int64(in.profile.Lifetime.Std())
	w.plan(p)
}

// report1 is the agent's report on one placement.
func (w *world) report1(p int32) {
	w.release(p)
	w.planner.reported(p)
	w.consider(p)
}

// issue counts a certificate that is signed.
func (w *world) issue() {
	if second := w.now / int64(time.Second); second != w.issuedIn {
		w.issuedIn, w.issued = second, 0
	}
	w.issued++
	w.report.Issued++
	w.report.PeakRate = max(w.report.PeakRate, w.issued)
	step := w.report.now()
	step.PeakRate = max(step.PeakRate, w.issued)
}
