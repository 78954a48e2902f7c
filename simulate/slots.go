package simulate

import (
	"fmt"
	"slices"

	"github.com/rotunda-pki/rotunda/schedule"
)

// ask asks for a slot of the placement's cluster.
func (w *world) ask(p int32) {
	c := &w.clusters[w.places[p].cluster]
	c.asks = append(c.asks, turn{p, w.now})
	w.decide(c)
}

// decide lets schedule say who of a cluster may go.
func (w *world) decide(c *cluster) {
	if len(c.asks) == 0 {
		return
	}
	asked := schedule.Cluster{Name: c.name, Most: c.most}
	for _, hold := range c.holds {
		asked.Holds = append(asked.Holds, schedule.Hold{Member: w.member(hold.place), Begun: true, Since: w.time(hold.at)})
	}
	for _, one := range c.asks {
		asked.Asks = append(asked.Asks, schedule.Ask{Member: w.member(one.place), Placement: placeID(one.place), Since: w.time(one.at), Unseen: w.hosts[w.places[one.place].host].away})
	}
	for _, verdict := range asked.Decide(w.time(w.now)) {
		p := slices.IndexFunc(c.asks, func(t turn) bool { return placeID(t.place) == verdict.Placement })
		if verdict.Granted || w.anyGrant {
			w.grant(c, p)
		} else if !verdict.Unseen {
			w.report.now().SlotWaits++
		}
	}
}

func (w *world) grant(c *cluster, at int) {
	p := c.asks[at].place
	c.asks = slices.Delete(c.asks, at, at+1)
	c.holds = append(c.holds, turn{p, w.now})
	w.places[p].away = true
	w.slots(c, p)
	w.activate(p)
}

// release gives a slot back, once the end is known.
func (w *world) release(p int32) {
	at := &w.places[p]
	if at.cluster < 0 {
		return
	}
	c := &w.clusters[at.cluster]
	if at.away {
		at.away = false
		c.holds = slices.DeleteFunc(c.holds, func(t turn) bool { return t.place == p })
	}
	w.decide(c)
}

// slots checks that no more members are away than may be, as processes are: by
// hosts and targets, whatever was granted.
func (w *world) slots(c *cluster, p int32) {
	away := map[[2]int32]bool{}
	for _, hold := range c.holds {
		away[[2]int32{w.places[hold.place].host, w.places[hold.place].member}] = true
	}
	step := w.report.now()
	step.MostAway = max(step.MostAway, len(away))
	w.report.MostAway = max(w.report.MostAway, len(away))
	if len(away) > c.most {
		w.breaks("slots", w.placeName(p), fmt.Sprintf("%d members of cluster %s are away, at most %d may be", len(away), c.name, c.most))
	}
}
