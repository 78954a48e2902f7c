package control

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
)

// Messages late, lost and of broken streams, servers that start anew, operators
// and time: agents that follow the rules are never away two at once by their
// grants.
func TestNeverTwoByTwoGrants(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	var agents []*courier
	for _, m := range d.members(2) {
		agents = append(agents, &courier{memberHost: m})
	}
	random := rand.New(rand.NewPCG(1, 2))
	begun := 0
	var told []string
	for range 4000 {
		i := random.IntN(len(agents))
		did, changed := agents[i].something(agents, random)
		if changed && agents[i].slot != "" {
			begun++
		}
		told = append(told, fmt.Sprintf("%d %s", i, did))
		if agents[0].slot != "" && agents[1].slot != "" {
			t.Fatalf("both are away:\n%s", strings.Join(told[max(0, len(told)-40):], "\n"))
		}
	}
	if begun < 20 {
		t.Errorf("only %d slots were begun", begun)
	}
}

// courier is an agent whose messages lie on the way. It does not hurry: the
// thirty seconds that an agent gives itself only make fewer things possible.
type courier struct {
	*memberHost
	down  []*api.DesiredState
	up    []*api.AgentReport
	old   []*api.AgentReport // of a stream that broke, which the server may still read
	asked uint64
}

// something does one thing, and says what, and whether the agent acted.
func (c *courier) something(all []*courier, random *rand.Rand) (did string, acted bool) {
	d := c.domain
	switch n := random.IntN(100); {
	case n < 14:
		state, err := d.Desired(d.t.Context(), c.caller)
		if err != nil {
			d.t.Fatal(err)
		}
		c.down = append(c.down, state)
		return fmt.Sprintf("is sent %v", state.Placements[0].Slot), false
	case n < 34:
		c.take()
		return "takes what it was sent", false
	case n < 54:
		return c.act(), true
	case n < 66:
		c.up = append(c.up, c.message())
		return fmt.Sprintf("reports %q, %d", c.slot, c.ask), false
	case n < 88:
		c.hear(&c.up)
		return "is heard", false
	case n < 92:
		c.hear(&c.old)
		return "is heard of a stream that broke", false
	case n < 94:
		c.down, c.old, c.up = nil, c.up, nil
		return "breaks its stream", false
	case n < 99:
		d.clock.turn(time.Duration(random.IntN(40)) * time.Second)
		d.tend()
		return "sees time pass", false
	}
	d.open()
	for _, agent := range all {
		d.connect(agent.caller)
	}
	return "sees the server start anew", false
}

func (c *courier) take() {
	if len(c.down) == 0 {
		return
	}
	if c.down[0].Seq >= c.took.GetSeq() {
		c.took = c.down[0]
	}
	c.down = c.down[1:]
}

// act begins where it may, ends what it began, or asks.
func (c *courier) act() string {
	switch placements := c.took.GetPlacements(); {
	case c.slot != "":
		c.slot = ""
		return "ends"
	case c.ask == 0:
		c.asked++
		c.ask = c.asked
		return "asks"
	case len(placements) > 0 && placements[0].Slot != nil && placements[0].Slot.Revision == c.ask:
		c.slot, c.ask = placements[0].Slot.Id, 0
		return "begins"
	}
	return "waits"
}

func (c *courier) hear(queue *[]*api.AgentReport) {
	if len(*queue) == 0 {
		return
	}
	if err := c.domain.Report(c.domain.t.Context(), c.caller, (*queue)[0]); err != nil {
		c.domain.t.Fatal(err)
	}
	*queue = (*queue)[1:]
}
