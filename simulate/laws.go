package simulate

import "fmt"

// The laws are checked against what processes do: which anchors each really
// trusts and which leaf it serves, kept in counts beside what the planner is
// told. Only a lying reload that no proof can see is taken for what it says; how
// many there were is in the report.

const (
	trustBeforeLeaf    = "trust before leaf"
	leafBeforeDistrust = "leaf before distrust"
)

func (w *world) breaks(law, who, why string) {
	if w.broken == nil {
		w.broken = &Violation{Law: law, At: w.time(w.now), Who: who, Why: why}
	}
}

// roots says whether anchors change with what is simulated.
func (w *world) roots() bool { return w.o.Change.Kind == "rotate-root" }

// bridges says whether new leaves carry a bridge now.
func (w *world) bridges() bool { return w.roots() && !w.unbridge }

// signed: a certificate was signed. Under a new root that is only after every
// relying party has adopted it.
func (w *world) signed(by uint8, who string) {
	if by == 0 || !w.roots() {
		return
	}
	if w.agents > 0 {
		w.breaks(trustBeforeLeaf, who, fmt.Sprintf("it was given a certificate under the new root, which %d agents do not trust", w.agents))
	}
	for i := range w.services {
		if n := w.services[i].blind; n > 0 {
			w.breaks(trustBeforeLeaf, who, fmt.Sprintf("it was given a certificate under the new root, which %d placements of service %s do not trust", n, w.services[i].name))
		}
	}
}

// leafUnderNew: a placement serves a leaf that needs the new anchor.
func (w *world) leafUnderNew(p int32) {
	if !w.roots() {
		return
	}
	for _, n := range w.services[w.intents[w.places[p].intent].service].neighbours {
		if blind := w.services[n].blind; blind > 0 {
			w.breaks(trustBeforeLeaf, w.placeName(p), fmt.Sprintf("it serves a leaf under the new root, which %d placements of service %s do not trust", blind, w.services[n].name))
		}
	}
}

// dropsOld: somebody trusts the old anchor no more. It has to do with nobody
// of its service's neighbours who lives on a leaf that needs it.
func (w *world) dropsOld(had, has anchors, service, who int32) {
	if had&oldAnchor == 0 || has&oldAnchor != 0 {
		return
	}
	for _, n := range w.services[service].neighbours {
		if old := w.services[n].old; old > 0 {
			w.breaks(leafBeforeDistrust, w.placeName(who), fmt.Sprintf("it trusts the old root no more, on which %d live leaves of service %s hang", old, w.services[n].name))
		}
	}
}
