package admission

import (
	"fmt"
	"testing"
	"time"
)

func TestCallersAreHeldToTheirLimits(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := NewCallers(CallerLimits{AtOnce: 3, PerSecond: 10, Burst: 5, Of: "calls"}, func() time.Time { return now })
	enter := func(name string) (leave func(), rule string, after time.Duration) {
		leave, refused := c.Enter(name, 1)
		if refused != nil {
			return nil, refused.Rule, refused.After
		}
		return leave, "", 0
	}
	var under []func()
	for range 3 {
		leave, rule, _ := enter("a")
		if rule != "" {
			t.Fatal(rule)
		}
		under = append(under, leave)
	}
	if _, rule, after := enter("a"); rule != "a caller may have 3 calls under way" || after <= 0 {
		t.Errorf("the fourth at once: %q, %s", rule, after)
	}
	if _, rule, _ := enter("b"); rule != "" {
		t.Errorf("another caller is refused: %s", rule)
	}
	for _, leave := range under {
		leave()
	}
	made := 3
	for range 10 {
		if leave, rule, _ := enter("a"); rule == "" {
			leave()
			made++
		}
	}
	if made != 5 {
		t.Errorf("a burst of %d", made)
	}
	_, rule, after := enter("a")
	if rule != "a caller may have 10 calls a second" || after < 100*time.Millisecond || after > time.Second {
		t.Errorf("beyond the burst: %q, %s", rule, after)
	}
	for range 100 { // in the long run
		now = now.Add(100 * time.Millisecond)
		leave, rule, _ := enter("a")
		if rule != "" {
			t.Fatal(rule)
		}
		leave()
	}
	if _, rule, _ := enter("a"); rule == "" {
		t.Error("twice the rate is let in")
	}
}

// One call may ask for much: it counts for as much.
func TestCallsCountForWhatTheyAsk(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := NewCallers(CallerLimits{AtOnce: 10, PerSecond: 10, Burst: 100, Of: "certificates"}, func() time.Time { return now })
	for i := range 4 {
		if _, refused := c.Enter("a", 25); refused != nil {
			t.Fatalf("call %d: %+v", i, refused)
		}
	}
	_, refused := c.Enter("a", 25)
	if refused == nil || refused.Rule != "a caller may have 10 certificates a second" || refused.After != 2500*time.Millisecond {
		t.Fatalf("beyond the burst: %+v", refused)
	}
	now = now.Add(refused.After)
	if _, refused := c.Enter("a", 25); refused != nil {
		t.Errorf("when it comes back as told: %+v", refused)
	}
	if _, refused := c.Enter("b", 256); refused != nil {
		t.Errorf("one call beyond the burst is never let in: %+v", refused)
	}
}

// However many callers come and go, what is remembered is bounded.
func TestCallersAreForgotten(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := NewCallers(CallerLimits{AtOnce: 3, PerSecond: 10, Burst: 5, Of: "calls"}, func() time.Time { return now })
	stays, _ := c.Enter("stays", 1)
	for i := range 100_000 {
		leave, refused := c.Enter(fmt.Sprint(i), 1)
		if refused != nil {
			t.Fatal(refused.Rule)
		}
		leave()
		now = now.Add(time.Millisecond)
	}
	if len(c.known) > 2*fewestKnown {
		t.Errorf("%d are remembered", len(c.known))
	}
	if c.known["stays"] == nil || c.known["stays"].calls != 1 {
		t.Error("one with a call under way was forgotten")
	}
	stays()
}
