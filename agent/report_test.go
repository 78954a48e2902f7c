package agent

import (
	"log/slog"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
)

// reporting makes the messages of an agent whose one placement stays as it is.
func reporting(t *testing.T, p *plane, identity *Identity, report *api.PlacementReport) *reporter {
	ids := &identities{}
	ids.current.Store(identity)
	return &reporter{link: &link{identity: identity}, sync: &syncer{
		ids: ids, performer: fixed{report}, now: time.Now, alarms: newAlarms(), witness: &logWitness{seen: mustWitness(t, p)}, log: slog.New(slog.DiscardHandler),
	}}
}

// The next member of a cluster waits for the word of one whose slot was taken
// back, though nothing else changed at that one.
func TestLostSlotsAreAnswered(t *testing.T) {
	desire := func(slot string) *api.DesiredState {
		placement := &api.DesiredPlacement{PlacementId: "p1"}
		if slot != "" {
			placement.Slot = &api.Slot{Id: slot}
		}
		return &api.DesiredState{Placements: []*api.DesiredPlacement{placement}}
	}
	for name, c := range map[string]struct {
		asks          uint64
		before, after string
		again         bool // on a stream that has seen a state
		answers       bool
	}{
		"taken back":                         {before: "s1", again: true, answers: true},
		"another's":                          {before: "s1", after: "s2", again: true, answers: true},
		"kept":                               {before: "s1", after: "s1", again: true},
		"granted":                            {after: "s1", asks: 2, again: true},
		"none":                               {again: true},
		"asked for":                          {asks: 2, again: true},
		"taken back while there was none":    {before: "s1", answers: true},
		"came and went while there was none": {asks: 2, answers: true},
		"none, and a stream is new":          {},
	} {
		p := newPlane(t)
		r := reporting(t, p, &Identity{Anchors: pki.Bundle{}}, &api.PlacementReport{PlacementId: "p1", AsksSlot: c.asks})
		r.full()
		r.answered = c.again
		answer := r.answer(desire(c.before), desire(c.after))
		if got := len(answer.GetPlacements()) == 1; got != c.answers {
			t.Errorf("%s: answered with %v", name, answer)
		}
		if answer = r.answer(desire(c.after), desire(c.after)); answer != nil {
			t.Errorf("%s: answered twice", name)
		}
	}
}

func TestEvidenceIsSignedByTheStreamsIdentity(t *testing.T) {
	p := newPlane(t)
	identity := func() *Identity {
		key := mustKey(t)
		chain, err := p.identity(key.Public(), "a1")
		check(t, err)
		return &Identity{AgentID: "a1", TrustDomain: p.domain, Key: key, Chain: mustChain(t, chain)}
	}
	old, now := identity(), identity()
	evidence, err := old.sign([]byte(`{"verdict":"proven"}`))
	check(t, err)
	report := &api.PlacementReport{PlacementId: "p1", Evidence: evidence}
	r := reporting(t, p, now, report)
	first := r.full()
	sent := first.Placements[0].Evidence
	if !now.vouches(sent) || old.vouches(sent) || string(sent.Statement) != string(evidence.Statement) || sent.Observer != "a1" {
		t.Errorf("evidence went as %v", sent)
	}
	if !old.vouches(report.Evidence) {
		t.Error("the executor's own report was changed")
	}
	if again := r.changes(); len(again.Placements) != 0 {
		t.Errorf("what did not change was sent again: %v", again.Placements)
	}
	if full := r.full(); len(full.Placements) != 1 || !full.Full {
		t.Errorf("a full report is %v", full)
	}
}

// fixed shows one report for ever.
type fixed struct{ report *api.PlacementReport }

func (f fixed) SetDesired(*api.DesiredState)    {}
func (f fixed) SetHold(string)                  {}
func (f fixed) Reachable()                      {}
func (f fixed) Reports() []*api.PlacementReport { return []*api.PlacementReport{f.report} }
func (f fixed) Changed() <-chan struct{}        { return nil }
