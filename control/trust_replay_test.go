package control

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/trust"
)

// The checker of package trust walks through worlds of facts that it makes up, by the
// planner alone. Here such walks are carried out by control on the store, and after
// each step the world and what the store shows must be at the same phase, with the
// same act to come: what is proven of the one holds of the other.

// Bits of anchors, and of the authorities under them, as in the checker.
const (
	underA = 1 << iota
	underB
)

// replayBudget bounds the walks; replayWalks are done however long they take.
const (
	replayBudget = 15 * time.Second
	replayWalks  = 4
)

const never = 300 // steps, of which no walk takes so many

// replayed is a world of the checker: what the control plane knows of a fleet.
type replayed struct {
	bundles, signer uint8
	back, retired   bool
	hosts           []replayedHost
}

type replayedHost struct {
	trusts, said   uint8 // anchors that it has, and said that it has
	serves, flight uint8 // authority of its leaf, and of one that is not in use yet; 0: none
	issued         uint8 // authorities of all that may be in use, for all that is known
	identity       uint8 // authority of its agent's own certificate
}

func (w *replayed) ends() (old, next uint8) {
	if w.back {
		return underB, underA
	}
	return underA, underB
}

// next is where the planner says that the world stands.
func (w *replayed) next() trust.Step {
	old, next := w.ends()
	t := trust.Change{
		Old: "A", New: "B", Roots: true, Through: trust.Done, Back: w.back, Retired: w.retired,
		Published: w.bundles&next != 0, Withdrawn: w.bundles&old == 0, Active: w.signer == next,
	}
	end := time.Now().Add(time.Hour)
	for i, h := range w.hosts {
		party := trust.RelyingParty{Name: fmt.Sprint("host ", i), Needs: fleet.Delivered}
		if h.said&next != 0 && !(t.Withdrawn && h.said&old != 0) {
			party.Has = fleet.Delivered
		}
		t.Parties = append(t.Parties, party)
		for kind, under := range map[string]uint8{"leaf": h.issued, "identity": h.identity} {
			if under&old != 0 {
				t.Holders = append(t.Holders, trust.Holder{ID: fmt.Sprint(kind, i), Name: fmt.Sprint(kind, i), NotAfter: end})
			}
		}
	}
	return t.Next(time.Now())
}

func (w *replayed) act() {
	old, next := w.ends()
	switch w.next().Action {
	case trust.PublishBoth:
		w.bundles |= next
	case trust.ActivateNew:
		w.signer = next
	case trust.PublishNew:
		w.bundles &^= old
	case trust.RetireOld:
		w.retired = true
	}
}

// replay is a world beside the fleet on a store that it is a picture of.
type replay struct {
	*domain
	world replayed
	fleet []*party
	next  []*x509.Certificate // by host: issued, and not in use; nil: none
	seen  map[string]int      // phases at which both stood
}

// unbridged begins a change of roots without a bridge, of which the checker has none.
func (d *domain) unbridged() {
	d.t.Helper()
	prepared, err := d.PrepareTrust(d.t.Context(), operator, &api.PrepareTrustRequest{Kind: "root"})
	if err != nil {
		d.t.Fatal(err)
	}
	request, err := ca.ParseCeremonyRequest(prepared.Request)
	if err != nil {
		d.t.Fatal(err)
	}
	key, _ := csr(d.t)
	signed, _, err := ca.HoldCeremony(d.clock.now(), request, ca.CeremonyKeys{New: key})
	if err != nil {
		d.t.Fatal(err)
	}
	text, err := signed.Encode()
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.BeginTrust(d.t.Context(), operator, &api.BeginTrustRequest{Response: text, Reason: "replay", Through: "done"}); err != nil {
		d.t.Fatal(err)
	}
}

func newReplay(t *testing.T, n int, seen map[string]int) *replay {
	r := &replay{domain: found(t), seen: seen, world: replayed{bundles: underA, signer: underA}}
	r.fleet, r.next = r.parties(n), make([]*x509.Certificate, n)
	for range r.fleet {
		r.world.hosts = append(r.world.hosts, replayedHost{trusts: underA, said: underA, serves: underA, issued: underA, identity: underA})
	}
	r.unbridged()
	return r
}

// agree compares the world with what the store shows.
func (r *replay) agree(rt *rapid.T, after string) {
	change, step := r.change(), r.world.next()
	action := string(step.Action)
	if step.Phase == trust.Reissue { // who is asked in which turn is its rollout's matter
		action = change.Action
	}
	if change.Phase != string(step.Phase) || change.Action != action || change.Back != r.world.back {
		rt.Fatalf("after %q the store is at %s (%q), back %v; the world at %s (%q): %+v", after, change.Phase, change.Action, change.Back, step.Phase, step.Action, r.world)
	}
	r.seen[fmt.Sprintf("%s back=%v", change.Phase, change.Back)]++
}

// moves are what can happen next, by name: the control plane acts, in a process that
// ends afterwards, a host takes the bundle of now, says so late, gets a certificate,
// puts it to use, gets another identity; an operator turns the change back.
func (r *replay) moves() map[string]func() {
	moves := map[string]func(){"act": func() { r.act(); r.world.act() }}
	if !r.world.back && r.world.bundles&underA != 0 {
		moves["back"] = func() {
			if err := r.decideTrust("back", "", "replay"); err != nil {
				r.t.Fatal(err)
			}
			r.world.back = true
		}
	}
	for i, p := range r.fleet {
		h := &r.world.hosts[i]
		name := func(what string) string { return fmt.Sprint(what, " ", i) }
		state := p.wants()
		if h.trusts != r.world.bundles {
			moves[name("take")] = func() {
				var err error
				p.bundle, err = pki.ParseBundleDER(state.Anchors)
				p.must(err)
				h.trusts = r.world.bundles
			}
		}
		if h.said != h.trusts || h.issued != h.serves|h.flight {
			moves[name("report")] = func() {
				p.tell()
				h.said, h.issued = h.trusts, h.serves|h.flight
			}
		}
		if state.RenewIdentityAt != nil {
			moves[name("identity")] = func() {
				_, request := csr(r.t)
				_, err := r.RenewIdentity(r.t.Context(), p.caller, &api.RenewIdentityRequest{Csr: request})
				p.must(err)
				h.identity = r.world.signer
			}
		}
		if desired := state.Placements[0]; r.next[i] == nil && p.generation <= desired.RenewThrough {
			moves[name("issue")] = func() {
				_, request := csr(r.t)
				r.next[i] = leafOf(r.t, p.issue(p.placement, p.generation+1, request))
				h.flight, h.issued = r.world.signer, h.issued|r.world.signer
			}
		}
		if r.next[i] != nil {
			moves[name("use")] = func() {
				p.leaf, r.next[i], p.generation = r.next[i], nil, p.generation+1
				h.serves, h.flight = h.flight, 0
			}
		}
	}
	return moves
}

// Walks of the checker's worlds, carried out on the store, stand where the checker
// says after each step, to the end of the change in either direction.
func TestWalksOfTheCheckerOnTheStore(t *testing.T) {
	began, walks, seen := time.Now(), 0, map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		if walks >= replayWalks && time.Since(began) > replayBudget {
			return
		}
		r := newReplay(t, rapid.IntRange(2, 3).Draw(rt, "hosts"), seen)
		defer r.db.Close()
		back := rapid.SampledFrom([]int{never, never, 2, 8, 14, 20}).Draw(rt, "back from")
		r.agree(rt, "begin")
		for steps := 0; r.change().EndedAt == nil; steps++ {
			if steps > never {
				rt.Fatalf("it does not end: %s; %+v", said(r.change()), r.world)
			}
			moves := r.moves()
			if steps < back {
				delete(moves, "back") // most walks should come far before
			}
			name := rapid.SampledFrom(slices.Sorted(maps.Keys(moves))).Draw(rt, "move")
			moves[name]()
			r.agree(rt, name)
			trusted(t, r.domain, r.fleet)
		}
		walks++
	})
	t.Logf("%d walks: %v", walks, seen)
	for _, phase := range []trust.Phase{trust.Distribute, trust.Prove, trust.Reissue, trust.Withdraw, trust.Refuse, trust.Done} {
		if walks >= 12 && seen[string(phase)+" back=false"]+seen[string(phase)+" back=true"] == 0 {
			t.Errorf("no walk was at %s", phase)
		}
	}
}
