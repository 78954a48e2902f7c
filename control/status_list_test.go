package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
)

// A fleet is listed in pages of any size, whatever chooses among it, and nothing
// is listed twice or left out.
func TestPlacementsAreListedInPages(t *testing.T) {
	d := found(t)
	d.apply(documents + strings.NewReplacer("orders-tls", "orders-mtls", "/tls", "/mtls").Replace(documents[strings.LastIndex(documents, "\n---"):]))
	var hosts []*host
	for i := range 3 {
		hosts = append(hosts, d.enrolHost(map[string]string{"role": "orders", "host": fmt.Sprint("h", i)}))
	}
	d.enrolHost(map[string]string{"role": "orders"}) // no host: its placements are held
	list := func(req *api.ListPlacementsRequest) *api.ListPlacementsResponse {
		t.Helper()
		response, err := d.ListPlacements(t.Context(), operator, req)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	for _, c := range []struct {
		request *api.ListPlacementsRequest
		want    int
	}{
		{&api.ListPlacementsRequest{}, 8},
		{&api.ListPlacementsRequest{Service: "orders"}, 8},
		{&api.ListPlacementsRequest{Intent: "orders-mtls"}, 4},
		{&api.ListPlacementsRequest{Intent: "orders-mtls", Service: "orders"}, 4},
		{&api.ListPlacementsRequest{Agent: hosts[0].id}, 2},
		{&api.ListPlacementsRequest{Agent: hosts[0].id, Intent: "orders-tls"}, 1},
		{&api.ListPlacementsRequest{Service: "elsewhere"}, 0},
	} {
		whole := list(c.request)
		if len(whole.Placements) != c.want || whole.Next != nil {
			t.Errorf("%v: %d placements and next %v, want %d", c.request, len(whole.Placements), whole.Next, c.want)
		}
		for limit := range uint32(9) {
			page, seen := proto.CloneOf(c.request), map[string]bool{}
			page.Limit = limit + 1
			for {
				got := list(page)
				for _, one := range got.Placements {
					if seen[one.Id] {
						t.Errorf("%v in pages of %d: %s is listed twice", c.request, page.Limit, one.Id)
					}
					seen[one.Id] = true
				}
				if c.request.Agent == "" && len(got.Placements) > int(page.Limit) {
					t.Errorf("%v: %d placements in a page of %d", c.request, len(got.Placements), page.Limit)
				}
				if page.After = got.Next; page.After == nil {
					break
				}
			}
			if len(seen) != c.want {
				t.Errorf("%v in pages of %d: %d placements, want %d", c.request, page.Limit, len(seen), c.want)
			}
		}
	}
}

// What is settled is left out on request: it is steady, and nobody but its agent
// says something of it.
func TestUnsettledPlacements(t *testing.T) {
	d := found(t)
	d.apply(documents)
	steady, failed := d.enrolHost(map[string]string{"role": "orders", "host": "a"}), d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	leave := map[*host]func(){}
	for h, report := range map[*host]*api.PlacementReport{
		steady: {State: api.State_STATE_STEADY, Revision: 1, Generation: 1, LastGeneration: 1, Reason: "generation 1 is good"},
		failed: {State: api.State_STATE_FAILED, Revision: 1, Failure: &api.Failure{Step: "prove"}},
	} {
		_, request := csr(t)
		leafOf(t, h.issue(h.placement(), 1, request))
		connection, err := d.Connect(t.Context(), h.caller, &api.Hello{Boot: 1})
		if err != nil {
			t.Fatal(err)
		}
		leave[h] = connection.Leave
		if err := h.report(report); err != nil {
			t.Fatal(err)
		}
	}
	unsettled := func() []*api.PlacementStatus {
		t.Helper()
		list, err := d.ListPlacements(t.Context(), operator, &api.ListPlacementsRequest{Unsettled: true})
		if err != nil {
			t.Fatal(err)
		}
		return list.Placements
	}
	if got := unsettled(); len(got) != 1 || got[0].Agent != failed.id {
		t.Errorf("%v", got)
	}
	leave[steady]()
	if got := unsettled(); len(got) != 2 || !slices.ContainsFunc(got, func(p *api.PlacementStatus) bool {
		return p.Agent == steady.id && p.Besides == "its agent is not connected" && p.Reason == "generation 1 is good; its agent is not connected"
	}) {
		t.Errorf("with one away: %v", got)
	}
	if _, err := d.Connect(t.Context(), steady.caller, &api.Hello{Boot: 2}); err != nil {
		t.Fatal(err)
	}
	if got := unsettled(); len(got) != 1 {
		t.Errorf("when it is back: %v", got)
	}
	if _, err := d.Rotate(t.Context(), operator, &api.RotateRequest{Placement: steady.placement()}); err != nil {
		t.Fatal(err)
	}
	if got := unsettled(); len(got) != 2 {
		t.Errorf("with a rotation asked for: %v", got)
	}
}

func TestAgentsAreListedInPages(t *testing.T) {
	d := found(t)
	var want []string
	for i := range 5 {
		want = append(want, d.enrolHost(map[string]string{"host": fmt.Sprint("h", i)}).id)
	}
	list := func(req *api.ListAgentsRequest) (ids []string, next string) {
		t.Helper()
		response, err := d.ListAgents(t.Context(), operator, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, agent := range response.Agents {
			ids = append(ids, agent.Id)
		}
		return ids, response.Next
	}
	slices.Sort(want)
	for limit := range uint32(7) { // 0: all at once
		var got []string
		for page := (&api.ListAgentsRequest{Limit: limit}); ; {
			ids, next := list(page)
			if limit > 0 && len(ids) > int(limit) {
				t.Errorf("%d agents in a page of %d", len(ids), limit)
			}
			got = append(got, ids...)
			if page.After = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v, want %v", limit, got, want)
		}
	}
	if ids, _ := list(&api.ListAgentsRequest{Id: want[2]}); !slices.Equal(ids, want[2:3]) {
		t.Errorf("one agent: %v", ids)
	}
	if ids, _ := list(&api.ListAgentsRequest{Id: "nobody"}); len(ids) != 0 {
		t.Errorf("nobody: %v", ids)
	}
}

// What agents raise stands above the list, with the host's name; of many the first few
// and how many more there are.
func TestAgentsAlarmsAreListed(t *testing.T) {
	d := found(t)
	raised := func() []string {
		t.Helper()
		list, err := d.ListPlacements(t.Context(), operator, &api.ListPlacementsRequest{Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		return list.AgentAlarms
	}
	hosts := make([]*host, mostAgentAlarms+2)
	for i := range hosts {
		hosts[i] = d.enrolHost(map[string]string{"role": "none"})
		d.connect(hosts[i].caller)
	}
	if got := raised(); len(got) != 0 {
		t.Errorf("none raises one: %q", got)
	}
	first := hosts[0]
	d.presence.note(first.id, 0, "audit log: a fork", d.clock.now())
	if got := raised(); len(got) != 1 || !strings.HasPrefix(got[0], "agent "+first.id+" on ") || !strings.HasSuffix(got[0], ": audit log: a fork") {
		t.Errorf("one raises one: %q", got)
	}
	d.clones.Store(first.id, "its state runs twice")
	if got := raised(); len(got) != 1 || !strings.HasSuffix(got[0], ": its state runs twice; audit log: a fork") {
		t.Errorf("it is a clone too: %q", got)
	}
	for _, h := range hosts {
		d.presence.note(h.id, time.Hour, "clock", d.clock.now())
	}
	if got := raised(); len(got) != mostAgentAlarms+1 || got[mostAgentAlarms] != "2 agents more raise one: rotunda get agents" {
		t.Errorf("all raise one: %q", got)
	}
}
