package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

// Those who are answered together get what each gets alone, and what ails one of
// them is nobody else's trouble.
func TestDesiresOfAGroup(t *testing.T) {
	d := found(t)
	d.apply(documents)
	var hosts []*host
	for i := range 5 {
		hosts = append(hosts, d.enrolHost(map[string]string{"role": "orders", "host": fmt.Sprint("h", i)}))
	}
	for _, h := range hosts[:2] {
		h.issue(h.placement(), 1, func() []byte { _, request := csr(t); return request }())
	}
	retired, stranger := hosts[3].caller, hosts[4].caller
	if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: retired.ID}); err != nil {
		t.Fatal(err)
	}
	stranger.ID = "nobody"
	clone := hosts[0].caller
	clone.Serial = "1" // has no record
	altered := hosts[2].caller
	if _, err := storetest.Raw(t, d.place).Exec("UPDATE agent SET labels = 'no labels' WHERE id = '" + altered.ID + "'"); err != nil {
		t.Fatal(err)
	}
	callers := []Caller{hosts[0].caller, retired, stranger, clone, altered, hosts[1].caller, hosts[0].caller}
	ask := func(of []Caller) (group []*question) {
		for _, caller := range of {
			group = append(group, &question{caller: caller, done: make(chan struct{})})
		}
		d.desiring.waiting, d.desiring.groups = slices.Clone(group), 1
		d.answerDesires()
		return group
	}
	together := ask(callers)
	for i, want := range []string{"", "is retired", "does not exist", "certificate", "labels", "", ""} {
		alone := ask(callers[i : i+1])[0]
		got := together[i]
		if (want == "") != (got.err == nil) || got.err != nil && !strings.Contains(got.err.Error(), want) {
			t.Errorf("caller %d: %v, want %q", i, got.err, want)
			continue
		}
		if fmt.Sprint(got.err) != fmt.Sprint(alone.err) || fault.CodeOf(got.err) != fault.CodeOf(alone.err) {
			t.Errorf("caller %d: together %v, alone %v", i, got.err, alone.err)
		}
		if want != "" {
			continue
		}
		if len(got.state.Placements) != 1 || got.state.Placements[0].WindowGeneration != 1 {
			t.Errorf("caller %d is desired to hold %v", i, got.state.Placements)
		}
		alone.state.ServerTime = got.state.ServerTime
		if !proto.Equal(got.state, alone.state) {
			t.Errorf("caller %d: together %v, alone %v", i, got.state, alone.state)
		}
	}
	if d.desiring.groups != 0 || d.desiring.waiting != nil || len(d.desiring.round) != 0 {
		t.Errorf("%d groups are under way, %d and %d wait", d.desiring.groups, len(d.desiring.waiting), len(d.desiring.round))
	}
}

// TestRoundsOfDesires: a round is answered in the order of ids, and whoever comes
// meanwhile goes before nobody who waits.
func TestRoundsOfDesires(t *testing.T) {
	var d desiring
	ask := func(from, to int) {
		for i := to - 1; i >= from; i-- {
			d.add(&question{caller: Caller{ID: fmt.Sprintf("%04d", i)}})
		}
	}
	var order []string
	take := func() (n int) {
		group := d.take()
		for _, one := range group {
			order = append(order, one.caller.ID)
		}
		return len(group)
	}
	ask(200, 300)
	taken := take()
	ask(0, 200)
	for n := taken; n > 0; taken += n {
		n = take()
	}
	if taken != 300 || !slices.IsSorted(order[:100]) || order[0] != "0200" || order[99] != "0299" || !slices.IsSorted(order[100:]) {
		t.Errorf("%d of 300 were taken, in this order: %v", taken, order)
	}
}
