package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/rotation"
)

// A process that lost an anchor may still take up sessions from before. So the
// agent takes some by a canary while the process has the anchor, and offers
// them once it has not. They stand in memory only; that they are to be offered
// stands in the record, so that an agent which was started anew in between says
// that it has none.

// held is the sessions of one anchor, or why there are none.
type held struct {
	tickets []*probe.Ticket
	results []probe.TicketResult
	until   time.Time // the end of the canary that they were taken by
}

// takeTickets takes sessions under each anchor that the process is about to
// lose by an activation. A restore does not wait for that.
func (p *placement) takeTickets(ctx context.Context, w *wish, s rotation.Step, v rotation.Revision) error {
	is, err := p.drawer.bundle(v.Bundle)
	if err != nil {
		return err
	}
	sessions := slices.DeleteFunc(slices.Clone(p.record.Sessions), func(anchor string) bool { return holds(is, anchor) })
	if s.Action == rotation.Activate && w.tries() {
		if lost := p.loses(v, is); len(lost) > 0 {
			p.fetchCanaries(ctx, w, v.Bundle)
			for _, anchor := range lost {
				if p.takeUnder(ctx, w, anchor) && !slices.Contains(sessions, anchor) {
					sessions = append(sessions, anchor)
				}
			}
		}
	}
	if ctx.Err() != nil || slices.Equal(sessions, p.record.Sessions) {
		return nil
	}
	return p.change(func(r *record) { r.Sessions = sessions })
}

// loses are the anchors that the process may have and will not be given any
// more.
func (p *placement) loses(v rotation.Revision, is pki.Bundle) (lost []string) {
	digests := []pki.BundleDigest{p.record.Trusts}
	if before := p.before(v); before != nil {
		digests = append(digests, before.Bundle)
	}
	for _, digest := range digests {
		was, err := p.drawer.bundle(digest)
		if err != nil {
			continue // not known any more, or never was
		}
		for _, anchor := range was.Anchors() {
			if name := pki.FingerprintOf(anchor.Raw).String(); !is.Contains(anchor) && !slices.Contains(lost, name) {
				lost = append(lost, name)
			}
		}
	}
	return lost
}

// takeUnder takes sessions by the canary under an anchor, and says whether they
// are to be offered later. They are not where nothing can be signed under it.
func (p *placement) takeUnder(ctx context.Context, w *wish, anchor string) bool {
	i := slices.IndexFunc(p.canaries.list, func(c canary) bool { return c.anchor == anchor })
	if i < 0 && p.canaries.err == nil {
		return false
	}
	if p.tickets == nil {
		p.tickets = map[string]held{}
	}
	if i < 0 {
		p.tickets[anchor] = held{results: []probe.TicketResult{{Anchor: anchor, Untaken: "no canary could be had: " + p.canaries.err.Error()}}}
		return true
	}
	c := p.canaries.list[i]
	spec := p.spec(w, nil, pki.Bundle{})
	spec.Certificate = &c.certificate
	tickets, results, err := probe.TakeTickets(ctx, spec, w.proof.minVersion, anchor)
	if err != nil {
		results = []probe.TicketResult{{Anchor: anchor, Untaken: err.Error()}}
	}
	p.tickets[anchor] = held{tickets, results, c.certificate.Leaf.NotAfter}
	p.e.Log.Info("session tickets taken", "placement", p.id, "authority", c.authority, "tickets", len(tickets))
	return true
}

// offers are the sessions that a process with the bundle has to refuse, and
// what is to be said where there are none.
func (p *placement) offers(w *wish, b pki.Bundle) (tickets []*probe.Ticket, results []probe.TicketResult) {
	for _, anchor := range p.record.Sessions {
		if holds(b, anchor) || p.startedWith(w, anchor) {
			continue
		}
		of, known := p.tickets[anchor]
		switch {
		case !known:
			results = append(results, probe.TicketResult{Anchor: anchor, Untaken: "the agent was started anew since the process had the anchor"})
		case len(of.tickets) > 0 && !p.e.Now().Before(of.until):
			results = append(results, probe.TicketResult{Anchor: anchor, Untaken: "the canary that one was taken by has run out"})
		default:
			tickets = append(tickets, of.tickets...)
			for _, result := range of.results {
				if result.Taken.IsZero() {
					results = append(results, result)
				}
			}
		}
	}
	return tickets, results
}

// startedWith says whether the process may still have an anchor because it
// takes and loses them by a restart only.
func (p *placement) startedWith(w *wish, anchor string) bool {
	if trustsLive(w.adapter) {
		return false
	}
	loaded, err := p.drawer.bundle(p.record.Trusts)
	return err != nil || holds(loaded, anchor)
}

// unrefused are the anchors whose sessions are still to be seen refused, after
// a proof.
func (r *record) unrefused(seen *probe.Observation) []string {
	if seen == nil {
		return r.Sessions
	}
	return slices.DeleteFunc(slices.Clone(r.Sessions), func(anchor string) bool {
		of := slices.DeleteFunc(slices.Clone(seen.Tickets), func(t probe.TicketResult) bool { return t.Anchor != anchor })
		return len(of) > 0 && !slices.ContainsFunc(of, func(t probe.TicketResult) bool { return !t.Shown() })
	})
}

// sessionsUnseen is what a report says where sessions could not be offered.
func (p *placement) sessionsUnseen(state api.State) string {
	if len(p.record.Sessions) == 0 || state != api.State_STATE_STEADY {
		return ""
	}
	var anchors []string
	for _, anchor := range p.record.Sessions {
		anchors = append(anchors, anchor[:min(12, len(anchor))]+"…")
	}
	return fmt.Sprintf("no ticket was taken, or none could be offered, under anchor %s, which was withdrawn: sessions from before may still be taken up; to be sure rotate its ticket keys, restart it, or close its sessions",
		strings.Join(anchors, " and "))
}
