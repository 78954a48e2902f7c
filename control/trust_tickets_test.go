package control

import (
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/store"
)

// shows takes what is desired, and reports it as proven by canaries and by what
// became of sessions from before.
func (p *party) shows(why string, tickets ...probe.TicketResult) {
	p.domain.t.Helper()
	p.showsBut("", why, tickets...)
}

// showsBut is shows without a canary under one of the authorities.
func (p *party) showsBut(missing, why string, tickets ...probe.TicketResult) {
	p.domain.t.Helper()
	p.adopt()
	p.renew()
	trials := []probe.TrialResult{{Name: "a throwaway root", Sent: "cc", Accepted: probe.Rejected}}
	err := p.domain.db.Read(p.domain.t.Context(), func(tx *store.Tx) error {
		all, err := tx.Authorities(p.domain.t.Context())
		for _, authority := range all {
			if authority.Kind != store.IssuingAuthority || authority.Name == missing {
				continue
			}
			root, err := tx.Authority(p.domain.t.Context(), authority.ParentID)
			if err != nil {
				return err
			}
			anchor, err := certificateOf(root)
			if err != nil {
				return err
			}
			trial := probe.TrialResult{Name: trialName(authority.Name), Sent: "aa", Expected: p.bundle.Contains(anchor), Accepted: probe.Rejected}
			if trial.Expected {
				trial.Accepted = probe.Accepted
			}
			trials = append(trials, trial)
		}
		return err
	})
	p.must(err)
	statement, err := probe.Observation{
		Time: p.domain.clock.now(), Observer: p.id, Address: "127.0.0.1:1", Outcome: probe.Served, Trials: trials, Tickets: tickets,
		Leaf: &probe.Leaf{Fingerprint: pki.FingerprintOf(p.leaf.Raw).String()},
	}.Statement()
	p.must(err)
	p.must(p.domain.Report(p.domain.t.Context(), p.caller, &api.AgentReport{
		AnchorsDigest: p.bundle.Digest().String(),
		Placements: []*api.PlacementReport{{
			PlacementId: p.placement, State: api.State_STATE_STEADY, Generation: p.generation, LastGeneration: p.generation, Reason: why,
			Revision: 1, BundleDigest: p.bundle.Digest().String(), Level: api.Level_LEVEL_PROVEN, Evidence: p.sign(statement),
		}},
	}))
}

// A process whose sessions of before were not seen refused holds the end of a
// change, by name and with what its agent says, whatever level is reported with
// them. That it gives none does not, nor that its agent could take none.
func TestSessionsHoldTheChange(t *testing.T) {
	d := found(t)
	hosts := d.parties(1)
	d.apply(strings.NewReplacer("{level: loaded}", "{level: proven}", " cluster: c1,", "").Replace(linkedDocuments))
	host := hosts[0]
	old := rootFingerprint(t, d)
	d.begin("root", "done")
	for turns := 0; d.change().Phase != "refuse"; turns++ {
		if turns > 60 {
			t.Fatalf("it does not withdraw: %v", d.change())
		}
		if !d.act() {
			host.shows("")
		}
	}
	for _, ticket := range []probe.TicketResult{
		{Anchor: old, Taken: d.clock.now(), Untaken: "it was not offered"},
		{Anchor: old, Resumed: true, Accepted: probe.Accepted, Taken: d.clock.now()},
		{Anchor: old, Resumed: true, Accepted: probe.Silent, Taken: d.clock.now()},
	} {
		host.shows("no ticket was taken: restart it", probe.TicketResult{Anchor: old, NoneGiven: true}, ticket)
		waitsFor(t, d, "refuse", "orders-tls on agent "+host.id+" has only shown that it has let go of root")
		waitsFor(t, d, "refuse", "as loaded since")
		waitsFor(t, d, "refuse", "(no ticket was taken: restart it)")
		if d.act() {
			t.Error("it goes on")
		}
	}
	host.shows("", probe.TicketResult{Anchor: old, NoneGiven: true}, probe.TicketResult{Anchor: old, Untaken: "the agent was started anew"},
		probe.TicketResult{Anchor: old, Accepted: probe.Rejected, Taken: d.clock.now()})
	for d.act() {
	}
	if change := d.change(); change.EndedAt == nil {
		t.Errorf("it has not ended: %v", change)
	}
}

// rootFingerprint is that of the only root.
func rootFingerprint(t *testing.T, d *domain) string {
	t.Helper()
	for _, authority := range d.authorities() {
		if authority.Kind == "root" {
			return pki.FingerprintOf(authority.Der).String()
		}
	}
	t.Fatal("there is no root")
	return ""
}
