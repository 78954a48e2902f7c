package trust

import (
	"fmt"
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
)

// members is how many processes an explored fleet has at most: each serves the
// others and calls them.
const members = 4

// Bits of anchors, and of the authorities under them.
const (
	underA = 1 << iota
	underB
)

// lateWorld is a fleet under a change of trust in which messages are lost and
// late: what the control plane knows of a host is what the host said last, and
// what was issued to it since.
type lateWorld struct {
	n       uint8 // members
	bundles uint8 // anchors that are published
	signer  uint8 // underA or underB
	retired bool
	back    bool

	trusts [members]uint8 // anchors that the process has loaded
	said   [members]uint8 // anchors that it said it has; 0 before it said anything
	serves [members]uint8 // authority of the leaf in use
	before [members]uint8 // authority of the leaf that a failed proof puts back; 0: it is committed
	flight [members]uint8 // of one that was issued and is not in use; 0: none
	issued [members]uint8 // authorities of all that may be in use, for all that the control plane knows
	asked  [members]bool
}

func (w *lateWorld) facts(t *Change) {
	old, next := uint8(underA), uint8(underB)
	if w.back {
		old, next = next, old
	}
	*t = Change{
		Old: "A", New: "B", Roots: true, Through: Done, Back: w.back, Parties: t.Parties[:0], Holders: t.Holders[:0],
		Published: w.bundles&next != 0, Withdrawn: w.bundles&old == 0, Active: w.signer == next, Retired: w.retired,
	}
	for i := range w.n {
		p := RelyingParty{Name: memberNames[i], Needs: fleet.Proven}
		if w.said[i]&next != 0 && !(t.Withdrawn && w.said[i]&old != 0) {
			p.Has = fleet.Proven
		}
		t.Parties = append(t.Parties, p)
		if w.issued[i]&old != 0 {
			h := Holder{ID: memberNames[i], Name: memberNames[i], NotAfter: noon.Add(1), Asked: w.asked[i]}
			t.Holders = append(t.Holders, h)
		}
	}
}

var memberNames = func() (names [members]string) {
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	return names
}()

// act is what the control plane does by what it sees.
func (w lateWorld) act(facts *Change, sees func(*Change)) lateWorld {
	w.facts(facts)
	sees(facts)
	step := facts.Next(noon)
	old, next := uint8(underA), uint8(underB)
	if w.back {
		old, next = next, old
	}
	switch step.Action {
	case PublishBoth:
		w.bundles |= next
	case ActivateNew:
		w.signer = next
	case RenewHolder:
		for _, h := range step.Holders {
			w.asked[h.ID[0]-'0'] = true
		}
	case PublishNew:
		w.bundles &^= old
	case RetireOld:
		w.retired = true
	}
	return w
}

// moves calls each with all worlds that may come next.
func (w lateWorld) moves(facts *Change, sees func(*Change), each func(lateWorld)) {
	step := func(change func(*lateWorld)) {
		n := w
		if change(&n); n != w {
			each(n)
		}
	}
	each(w.act(facts, sees))
	for i := range w.n {
		step(func(n *lateWorld) { n.trusts[i] = w.bundles }) // takes the bundle of now
		step(func(n *lateWorld) { n.report(i) })             // a message arrives at last
		if w.asked[i] && w.flight[i] == 0 {
			step(func(n *lateWorld) { n.flight[i], n.issued[i] = w.signer, w.issued[i]|w.signer })
		}
		if w.flight[i] != 0 {
			step(func(n *lateWorld) {
				n.before[i], n.serves[i], n.flight[i], n.asked[i] = w.serves[i], w.flight[i], 0, false
			})
		}
		if w.before[i] != 0 { // the proof failed
			step(func(n *lateWorld) { n.serves[i], n.before[i], n.asked[i] = w.before[i], 0, true })
		}
	}
	if !w.back && w.bundles&underA != 0 && !w.retired {
		step(func(n *lateWorld) { n.back, n.asked = true, [members]bool{} })
	}
}

// report tells the control plane how the host stands.
func (w *lateWorld) report(i uint8) {
	w.said[i], w.before[i] = w.trusts[i], 0 // what is reported is committed
	w.issued[i] = w.serves[i] | w.flight[i]
}

func (w *lateWorld) broken() bool {
	for i := range w.n {
		for j := range w.n {
			if w.trusts[j]&w.serves[i] == 0 {
				return true
			}
		}
	}
	return false
}

// exploreLate walks through reachable worlds, at most so many, and says which
// breaks a law.
func exploreLate(n uint8, sees func(*Change), most int) (worlds int, broken *lateWorld, ends [2]bool) {
	start := lateWorld{n: n, bundles: underA, signer: underA}
	for i := range n {
		start.trusts[i], start.serves[i], start.issued[i] = underA, underA, underA
	}
	seen := map[lateWorld]struct{}{start: {}}
	queue, facts := []lateWorld{start}, &Change{}
	for len(queue) > 0 && len(seen) < most {
		w := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if w.broken() {
			return len(seen), &w, ends
		}
		if w.retired {
			ends[map[bool]int{false: 0, true: 1}[w.back]] = true
		}
		w.moves(facts, sees, func(next lateWorld) {
			if _, known := seen[next]; !known {
				seen[next] = struct{}{}
				queue = append(queue, next)
			}
		})
	}
	return len(seen), nil, ends
}

// With messages lost and late, in every order, turned back at any moment: what
// each process serves is trusted by all. A fleet of three is walked through
// whole, of one of four at least a million worlds.
func TestTrustLawsWithLateMessages(t *testing.T) {
	const most = 1_100_000
	for n, whole := range map[uint8]bool{3: true, 4: false} {
		worlds, broken, ends := exploreLate(n, func(*Change) {}, most)
		if broken != nil {
			t.Errorf("a law is broken: %+v", *broken)
		}
		if whole && (worlds >= most || ends != [2]bool{true, true}) {
			t.Errorf("%d worlds of %d members, ends forward and back: %v", worlds, n, ends)
		}
		if !whole && worlds < 1_000_000 {
			t.Errorf("%d worlds of %d members only", worlds, n)
		}
		t.Logf("%d members: %d distinct worlds", n, worlds)
	}
}

// Each gate, dropped, is caught.
func TestTrustMutantsAreCaught(t *testing.T) {
	for name, blind := range map[string]func(*Change){
		"who has adopted": func(t *Change) {
			for i := range t.Parties {
				t.Parties[i].Has = fleet.Proven
			}
		},
		"the last party": func(t *Change) { t.Parties = t.Parties[:len(t.Parties)-1] },
		"who holds what": func(t *Change) { t.Holders = nil },
		"who has a certificate in flight": func(t *Change) {
			if len(t.Holders) == 1 {
				t.Holders = nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			if worlds, broken, _ := exploreLate(3, blind, 1_000_000); broken == nil {
				t.Errorf("no law is broken in %d worlds", worlds)
			}
		})
	}
}
