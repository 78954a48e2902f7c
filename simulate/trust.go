package simulate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/trust"
)

// A look at a change of trust costs what the fleet is large. One comes soon
// after the last of those that were waited for, as far as that can be told, and
// else when a part of the time that the phase has taken is over. Whether the
// change goes on is trust.Change's word alone.
const (
	lookSoon   = 300 * time.Millisecond
	lookAtMost = 10 * time.Second
	lookPart   = 5
)

// change drives a change of trust.
type change struct {
	*world
	set     fleet.Set
	t       trust.Change
	first   int // of the parties that are agents
	asked   int // of those outside
	holders int // of the holders that are agents
	pending int // who is still waited for: when to look, never whether to go on
	entered int64
	phase   trust.Phase
	waits   string
	moves   bool // an operator is on the way to let it go on
}

func (c *change) begin() error {
	c.t = trust.Change{Old: "root-1", New: "root-2", Roots: c.roots(), Bridged: c.roots(), Through: trust.Drain}
	if !c.t.Roots {
		c.t.Old, c.t.New = "issuing-1", "issuing-2"
	}
	for p := range c.places {
		at := &c.places[p]
		in := &c.intents[at.intent]
		name := c.placeName(int32(p))
		if c.t.Roots {
			c.t.Parties = append(c.t.Parties, trust.RelyingParty{ID: placeID(int32(p)), Name: name, Needs: in.needs, Has: in.needs, Away: c.hosts[at.host].away})
		}
		if in.profile != nil {
			at.holder = int32(len(c.t.Holders))
			c.t.Holders = append(c.t.Holders, trust.Holder{ID: placeID(int32(p)), Name: name, NotAfter: c.time(at.notAfter), Away: c.hosts[at.host].away})
		}
	}
	c.first, c.holders = len(c.t.Parties), len(c.t.Holders)
	for h := range c.hosts {
		name := "agent " + hostName(int32(h))
		if c.t.Roots {
			c.t.Parties = append(c.t.Parties, trust.RelyingParty{Name: name, Needs: fleet.Loaded, Has: fleet.Loaded, Away: c.hosts[h].away})
		}
		c.t.Holders = append(c.t.Holders, trust.Holder{ID: "agent", Name: name, NotAfter: c.o.Begin.Add(longest), Asked: true, Away: c.hosts[h].away})
	}
	c.asked = len(c.t.Parties)
	if c.t.Roots {
		c.readOutside()
	}
	c.report.enter("begin", 0)
	return nil
}

// readOutside adds the parties without agents: people have to ask them.
func (c *change) readOutside() {
	for i := range c.services {
		s := &c.services[i]
		declared, _ := c.set.Service(s.name)
		if declared.Outside && len(s.neighbours) > 1 {
			c.t.Parties = append(c.t.Parties, trust.RelyingParty{Name: "outside party " + string(s.name), Needs: fleet.Delivered, Ask: declared.Owner.Contact})
		}
	}
}

func (c *change) answered(who int32) {
	c.t.Parties[who].Excused = "by its owner's word"
	c.settled()
}

// settled is one less that is waited for.
func (c *change) settled() {
	if c.pending--; c.pending <= 0 {
		c.lookBy(c.now + int64(lookSoon))
	}
}

func (c *change) look() {
	if !c.t.Bridged {
		c.listBridging()
	}
	step := c.t.Next(c.time(c.now))
	if step.Phase != c.phase {
		c.phase, c.entered = step.Phase, c.now
		c.report.enter(string(step.Phase), c.now)
	}
	if step.Phase == trust.Done {
		return
	}
	c.note(step)
	if step.Action != "" {
		c.act(step)
		c.lookBy(c.now + int64(lookSoon))
		return
	}
	c.lookBy(c.now + max(int64(lookAtMost), (c.now-c.entered)/lookPart))
}

func (c *change) listBridging() {
	c.t.Bridging = c.t.Bridging[:0]
	if c.bridging > 0 {
		for p := range c.places {
			if c.places[p].bridge {
				c.t.Bridging = append(c.t.Bridging, c.placeName(int32(p)))
			}
		}
	}
}

// note keeps what the step waits for, by reasons of one kind.
func (c *change) note(step trust.Step) {
	type group struct {
		n   int
		who string
	}
	groups := map[string]*group{}
	c.pending = len(step.Waits)
	for _, wait := range step.Waits {
		if wait.Who == "" && !c.moves && step.Action == "" {
			c.moves = true
			c.after(c.o.AdvanceAfter, onAdvance, 0, 0)
		}
		why := wait.Reason
		for _, from := range []string{" since ", " until "} {
			why, _, _ = strings.Cut(why, from)
		}
		if groups[why] == nil {
			groups[why] = &group{who: wait.Who}
		}
		groups[why].n++
	}
	c.waits = ""
	for why, g := range groups {
		c.report.held(why, g.who, g.n, c.now)
		if c.waits == "" || why < c.waits {
			c.waits = why
		}
	}
}

func (c *change) act(step trust.Step) {
	switch step.Action {
	case trust.PublishBoth:
		c.t.Published = true
		c.publish(oldAnchor | newAnchor)
		for i := c.asked; i < len(c.t.Parties); i++ {
			c.after(c.between(c.o.ByHand/2, c.o.ByHand*3/2), onAnswer, int32(i), 0)
		}
	case trust.ActivateNew:
		c.t.Active, c.signs = true, 1
		c.tellAll()
	case trust.RenewHolder:
		c.renew(step.Holders)
	case trust.DropBridge:
		c.t.Bridged, c.unbridge = false, true
		c.tellAll()
	case trust.PublishNew:
		for i := range c.services {
			if n := c.services[i].old; n > 0 {
				c.breaks(leafBeforeDistrust, "the bundles", fmt.Sprintf("the old root leaves them, on which %d live leaves of service %s hang", n, c.services[i].name))
			}
		}
		c.t.Withdrawn = true
		c.publish(newAnchor)
	case trust.RetireOld:
		c.t.Retired = true
	}
}

// publish gives everybody other anchors: nobody has adopted them yet.
func (c *change) publish(a anchors) {
	c.anchors = a
	for i := range c.t.Parties {
		if c.t.Parties[i].Ask == "" {
			c.t.Parties[i].Has = ""
		}
	}
	c.tellAll()
}

// renew asks each holder in its turn.
func (c *change) renew(holders []trust.Holder) {
	ids := make([]string, len(holders))
	for i, holder := range holders {
		ids[i] = holder.ID
	}
	over := c.o.Over
	if over == 0 {
		over = schedule.DefaultOver(len(ids))
	}
	for _, turn := range schedule.Pace(ids, over) {
		p := placeIndex(turn.Placement)
		c.t.Holders[c.places[p].holder].Asked = true
		c.after(turn.After, onAsked, p, 0)
	}
}

func (c *change) advance() {
	c.t.Through = trust.Done
	c.lookBy(c.now)
}

// reported makes facts of what an agent says of a placement.
func (c *change) reported(p int32) {
	at := &c.places[p]
	if at.silent {
		return
	}
	now := c.time(c.now)
	if c.t.Roots {
		party := &c.t.Parties[p]
		before := c.t.Adopted(*party)
		party.Since, party.Has, party.Why = now, "", ""
		switch {
		case at.failed:
			party.Why = "what was tried failed, and was put back"
		case at.given == c.anchors && at.hand:
			party.Has, party.Why = fleet.Delivered, "it takes this at a restart only, and its intent names no restartCommand"
		case at.given == c.anchors:
			party.Has = party.Needs
		}
		if !before && c.t.Adopted(*party) {
			c.report.adopted(party.Name, c.now)
			c.gained()
		}
	}
	if at.holder < 0 {
		return
	}
	holder := &c.t.Holders[at.holder]
	was := now.Before(holder.NotAfter)
	switch {
	case !at.live:
		if holder.NotAfter = (time.Time{}); was {
			c.freed()
		}
	case c.t.Active && !at.due && holder.Asked && !holder.NotAfter.Equal(c.time(at.notAfter)):
		holder.Asked = false // the one that was under way is from the old authority yet
		holder.NotAfter = c.time(at.notAfter)
		c.lookBy(c.now + int64(lookAtMost))
	default:
		holder.NotAfter = c.time(at.notAfter)
	}
	if c.phase == trust.Unbridge && c.bridging == 0 {
		c.lookBy(c.now + int64(lookSoon))
	}
}

// gained: a party has adopted what it should.
func (c *change) gained() {
	if slices.Contains([]trust.Phase{trust.Distribute, trust.Prove, trust.Withdraw, trust.Refuse}, c.phase) {
		c.settled()
	}
}

// freed: a holder needs the old authority no more.
func (c *change) freed() {
	if c.phase == trust.Reissue || c.phase == trust.Drain {
		c.settled()
	}
}

func (c *change) hostSaid(h int32) {
	if c.t.Roots {
		party := &c.t.Parties[c.first+int(h)]
		before := c.t.Adopted(*party)
		if party.Since = c.time(c.now); c.hosts[h].adopted == c.anchors {
			party.Has = fleet.Loaded
		}
		if !before && c.t.Adopted(*party) {
			c.report.adopted(party.Name, c.now)
			c.gained()
		}
	}
	if holder := &c.t.Holders[c.holders+int(h)]; c.hosts[h].under == 1 && !holder.NotAfter.IsZero() {
		holder.NotAfter = time.Time{}
		c.freed()
	}
}

func (c *change) presence(h int32) {
	host := c.hosts[h]
	for p := host.first; p < host.first+host.count; p++ {
		if c.t.Roots {
			c.t.Parties[p].Away = host.away
		}
		if holder := c.places[p].holder; holder >= 0 {
			c.t.Holders[holder].Away = host.away
		}
	}
	if c.t.Roots {
		c.t.Parties[c.first+int(h)].Away = host.away
	}
	c.t.Holders[c.holders+int(h)].Away = host.away
}

func (c *change) over() bool { return c.phase == trust.Done }

func (c *change) part() float64 {
	total := max(len(c.t.Parties), len(c.t.Holders), 1)
	return (float64(max(slices.Index(trust.Phases, c.phase), 0)) + 1 - min(float64(c.pending)/float64(total), 1)) / float64(len(trust.Phases))
}

func (c *change) waitsFor() string { return string(c.phase) + " waits: " + c.waits }
