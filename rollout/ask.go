package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// mostReasons bounds how many clusters, or intents, are named for one wave; the
// rest is counted.
const mostReasons = 20

// ask asks the placements of a wave, and those left behind by the ones before
// it, to begin: as many as may.
func (n *turn) ask(r *run, s survey, wave int) {
	waiting := s.behind(wave)
	if waiting == 0 {
		return
	}
	if why := n.closed(r, s, wave); why != "" {
		n.wait(r, wave, waiting, "%s", why)
		return
	}
	spec := &r.begun.Spec
	perMinute, atOnce := spec.PerMinute-len(s.recent), len(r.parts)
	if spec.AtOnce > 0 {
		atOnce = spec.AtOnce - len(s.motion)
	}
	full := fmt.Sprintf("%d are under way, at most %d may be", spec.AtOnce, spec.AtOnce)
	paced := fmt.Sprintf("at most %d are asked in a minute", spec.PerMinute)
	blocked := map[string]int{}
	for i := 0; i < r.starts[wave+1]; i++ {
		p := r.parts[i]
		if state := n.standing(spec, p); state != pending && state != unseen {
			continue
		}
		why := n.blocked(r, p)
		switch {
		case why != "":
		case atOnce <= 0:
			why = full
		case perMinute <= 0:
			why = paced
		default:
			perMinute, atOnce = perMinute-1, atOnce-1
			n.move(r, p.place, uint32(n.now.Unix()))
			n.act(r, Rotate, n.waveOf(r, i), Action{Placement: n.places[p.place].id, Through: uint64(p.through), NewKey: spec.NewKey})
			continue
		}
		blocked[why]++
	}
	n.list(r, wave, blocked)
}

// closed says why nobody of the wave may begin.
func (n *turn) closed(r *run, s survey, wave int) string {
	spec := &r.begun.Spec
	if _, paused := r.decided(); paused != nil {
		return strings.TrimSuffix(fmt.Sprintf("paused since %s by %s: %s", when(n.now, paused.At), paused.By, paused.Reason), ": ")
	}
	if why := r.lead().Early(n.now); why != "" {
		return why
	}
	if s.waves[wave].tooMany(spec) {
		return "its breaker is open"
	}
	if calendar := n.calendar(*spec); !calendar.Open(n.now) {
		return calendar.why(n.now)
	}
	return ""
}

// blocked says why one placement may not begin, as far as others are the cause.
func (n *turn) blocked(r *run, p part) string {
	at := n.places[p.place]
	if at.at == 0 {
		return "nothing is known of them yet"
	}
	intent, cluster := n.intents.list[at.intent], n.clusters.list[at.cluster]
	if failed := n.broken[at.intent]; failed > 0 {
		return openBreaker(intent, failed)
	}
	for _, m := range n.holders[at.cluster] {
		if m.run != r {
			return fmt.Sprintf("rollout %s has a member of %s under way since %s", m.run.begun.Spec.Name, cluster, when(n.now, moment(m.since)))
		}
		if m.member != at.member {
			return fmt.Sprintf("another member of %s is under way since %s", cluster, when(n.now, moment(m.since)))
		}
	}
	if change, held := n.heldBy(cluster); held && change.At.IsZero() {
		return fmt.Sprintf("%s holds %s", change.Change, cluster)
	} else if held {
		return fmt.Sprintf("%s holds %s since %s", change.Change, cluster, when(n.now, change.At))
	}
	return ""
}

func openBreaker(intent string, failed int) string {
	return fmt.Sprintf("the breaker of intent %s is open: %d of its placements failed; rotunda resume %s", intent, failed, intent)
}

// heldBy is the oldest of the other changes that hold a cluster.
func (n *turn) heldBy(cluster string) (oldest Held, held bool) {
	for _, one := range n.held[cluster] {
		if one.Over || held && cmp.Or(oldest.At.Compare(one.At), strings.Compare(oldest.Change, one.Change)) <= 0 {
			continue
		}
		oldest, held = one, true
	}
	return oldest, held
}

// unproven says how many members of which clusters are under way, in a wave and
// in those before it.
func (n *turn) unproven(r *run, wave int) {
	spec := &r.begun.Spec
	type group struct {
		since    uint32
		unproven map[uint32]bool
		n        int
		members  map[uint32]bool
	}
	groups := map[uint32]*group{}
	for _, i := range n.surveys[r].motion {
		p := r.parts[i]
		if n.standing(spec, p) != moving || i >= r.starts[wave+1] {
			continue
		}
		at := n.places[p.place]
		g := groups[at.cluster]
		if g == nil {
			g = &group{since: p.asked, unproven: map[uint32]bool{}, members: map[uint32]bool{}}
			groups[at.cluster] = g
		}
		g.since, g.n = min(g.since, p.asked), g.n+1
		g.unproven[at.member] = true
	}
	for _, p := range r.parts {
		if at := n.places[p.place]; at.cluster > 0 {
			if g := groups[at.cluster]; g != nil && !at.is(gone) {
				g.members[at.member] = true
			}
		}
	}
	blocked := map[string]int{}
	for cluster, g := range groups {
		k, of, whose := len(g.unproven), len(g.members), "members of "+n.clusters.list[cluster]
		if cluster == 0 {
			k, of, whose = g.n, max(g.n, n.surveys[r].waves[wave].wanted()), "placements"
		}
		blocked[fmt.Sprintf("%d of %d %s %s %s since %s", k, of, whose, words(k, "is", "are"), unlevel[spec.Gates.Level], when(n.now, moment(g.since)))] += g.n
	}
	n.list(r, wave, blocked)
}

// list adds reasons with how many each is about: those about most first.
func (n *turn) list(r *run, wave int, blocked map[string]int) {
	var texts []string
	for text := range blocked {
		texts = append(texts, text)
	}
	slices.SortFunc(texts, func(a, b string) int { return cmp.Or(blocked[b]-blocked[a], strings.Compare(a, b)) })
	for i, text := range texts {
		if i == mostReasons && len(texts) > mostReasons+1 {
			rest := 0
			for _, text := range texts[i:] {
				rest += blocked[text]
			}
			n.wait(r, wave, rest, "%d more for %d more reasons of these kinds", rest, len(texts)-i)
			return
		}
		n.wait(r, wave, blocked[text], "%s", text)
	}
}
