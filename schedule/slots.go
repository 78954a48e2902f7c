package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// UnwellFor bounds how long a member that is unwell by itself stands in the
// way of the others. It is out of its steady state, so another one should not
// leave it too; but it holds no slot, its agent may never come back, and the
// others' certificates run out.
const UnwellFor = 15 * time.Minute

// Cluster is what is known of a cluster when it is asked who may go.
type Cluster struct {
	Name   string
	Most   int // members that may be out of their steady state at once; 0 means 1
	Holds  []Hold
	Asks   []Ask
	Unwell []Unwell
}

// Hold is a slot that was granted and has not ended.
type Hold struct {
	Member
	Begun bool
	Since time.Time
}

// Ask is a placement that waits for a slot.
type Ask struct {
	Member
	Placement string
	Since     time.Time
	Unseen    bool // its agent can't be told now
}

// Unwell is a member whose process was left in doubt: what was tried there
// failed, and nothing was put back.
type Unwell struct {
	Member
	Why   string
	Since time.Time
}

// Verdict is what comes of an ask: a grant, or why there is none.
type Verdict struct {
	Ask
	Granted bool
	Reason  string
}

// Decide says of each ask whether it is granted, in the order in which they
// are: the oldest first. Of a member that is away already another placement may
// go at once: it takes nobody away. But not while more are away than may be:
// one that is unwell by itself should not touch its process as well.
func (c Cluster) Decide(now time.Time) []Verdict {
	most := max(c.Most, 1)
	away := c.away(now)
	var verdicts []Verdict
	before := 0 // asks that go first
	for _, ask := range c.queue() {
		_, counted := away[ask.Member]
		verdict := Verdict{Ask: ask}
		switch {
		case ask.Unseen:
			verdict.Reason = fmt.Sprintf("cluster %s: the agent %s is not connected, so it can't be told to go", c.Name, ask.Agent)
		case counted && len(away) <= most, len(away) < most:
			verdict.Granted = true
			if !counted {
				away[ask.Member] = fmt.Sprintf("the one on agent %s was given it now", ask.Agent)
			}
		default:
			verdict.Reason = c.full(away, most, before)
			before++
		}
		verdicts = append(verdicts, verdict)
	}
	return verdicts
}

// queue is the asks, the oldest first. Those of one moment are in an order that
// stays.
func (c Cluster) queue() []Ask {
	asks := slices.Clone(c.Asks)
	slices.SortFunc(asks, func(a, b Ask) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(Order(c.Name, a.Placement), Order(c.Name, b.Placement)))
	})
	return asks
}

// away is the members that are out of their steady state, or may be, each with
// how that is known.
func (c Cluster) away(now time.Time) map[Member]string {
	away := map[Member]string{}
	for _, one := range c.Unwell {
		if now.Sub(one.Since) < UnwellFor {
			away[one.Member] = fmt.Sprintf("the one on agent %s is unwell since %s: %s", one.Agent, Clock(one.Since), one.Why)
		}
	}
	for _, hold := range c.Holds {
		verb := "was given it at"
		if hold.Begun {
			verb = "holds it since"
		}
		away[hold.Member] = fmt.Sprintf("the one on agent %s %s %s", hold.Agent, verb, Clock(hold.Since))
	}
	return away
}

func (c Cluster) full(away map[Member]string, most, before int) string {
	var who []string
	for _, how := range away {
		who = append(who, how)
	}
	slices.Sort(who)
	if len(who) > 2 {
		who = append(who[:2], fmt.Sprintf("and %d more", len(who)-2))
	}
	text := fmt.Sprintf("cluster %s has %d of %d members away: %s", c.Name, len(away), most, strings.Join(who, ", "))
	if before > 0 {
		text += fmt.Sprintf("; %d asked before this one", before)
	}
	return text
}

// Clock is a time of day in words.
func Clock(t time.Time) string { return t.UTC().Format("15:04") }
