package whatif

import (
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/trust"
)

// inThree is a rotation of the root over a cluster of three and a host by itself.
func inThree(change func(*Supposed)) Supposed {
	s := supposed("rotate-root", spot("etcd", "h1", "ia", "A"), spot("etcd", "h2", "ia", "A"), spot("etcd", "h3", "ia", "A"), spot("orders", "h4", "ia", "A"))
	for _, host := range []string{"h1", "h2", "h3"} {
		s.means("etcd on agent "+host, func(m *Means) { m.Cluster, m.AtOnce = "c1", 1 })
	}
	s.Signs = []string{"sign it"}
	if change != nil {
		change(&s)
	}
	return s
}

func phaseOf(t *testing.T, told Foretold, phase trust.Phase) PhasePlan {
	t.Helper()
	for _, p := range told.Phases {
		if p.Phase == phase {
			return p
		}
	}
	t.Fatalf("no phase %s", phase)
	return PhasePlan{}
}

// Phases follow each other without a gap; what Rotunda does is dated, and of what
// people do it is said that nobody can know.
func TestPhasesAreDated(t *testing.T) {
	told := inThree(nil).Foretell(noon)
	at := noon
	for _, p := range told.Phases {
		if !p.Begins.Equal(at) || p.Ends.Sub(p.Begins) != p.Takes {
			t.Errorf("%s from %s to %s takes %s; the one before ended %s", p.Phase, p.Begins, p.Ends, p.Takes, at)
		}
		at = p.Ends
	}
	if !told.Ends.Equal(at) || told.Ends.Sub(noon) != told.Takes {
		t.Errorf("ends %s, takes %s", told.Ends, told.Takes)
	}
	// One member after the other, a minute each.
	if takes := phaseOf(t, told, trust.Reissue).Takes; takes != 3*RenewTime {
		t.Errorf("the renewals take %s", takes)
	}
	for phase, words := range map[trust.Phase]string{Prepare: "how long the signatures take", trust.Unbridge: "when people do what is asked"} {
		if got := strings.Join(phaseOf(t, told, phase).Unknown, "; "); !strings.Contains(got, words) {
			t.Errorf("of %s it is not known %q", phase, got)
		}
	}
	if got := phaseOf(t, told, trust.Distribute).Unknown; len(got) > 0 {
		t.Errorf("of what Rotunda does by itself it is not known %q", got)
	}
	if all := strings.Join(told.Assumes, "\n"); !strings.Contains(all, "renewals are begun at all times; bundles, and restarts for them, go by no window") {
		t.Errorf("it assumes %s", all)
	}
	if told.Waves[0].Window != "" || len(told.Waves) != 1 || !told.Waves[0].End.Equal(told.Ends) {
		t.Errorf("in windows %+v", told.Waves)
	}
}

// Renewals wait for their window, and what comes after waits for them; a freeze holds
// them and nothing else, unless they are urgent.
func TestRenewalsGoByWindows(t *testing.T) {
	nights := &fleet.Window{From: "22:00", To: "22:02", Timezone: "UTC"}
	afternoon := &fleet.Window{From: "12:00", To: "15:30", Timezone: "UTC", Freeze: true}
	ends := func(change func(*Supposed)) (Foretold, string) {
		told := inThree(func(s *Supposed) {
			s.Windows = map[fleet.Name]*fleet.Window{"nights": nights, "afternoon": afternoon}
			change(s)
		}).Foretell(noon)
		return told, phaseOf(t, told, trust.Reissue).Ends.Format("02 15:04:05")
	}
	// Three minutes of work in windows of two.
	told, end := ends(func(s *Supposed) { s.Reissue.Windows = []fleet.Name{"nights"} })
	if end != "03 22:01:00" || !told.Ends.After(phaseOf(t, told, trust.Reissue).Ends) || len(told.Waves) > 0 {
		t.Errorf("in windows of two minutes %s, all %s, %+v", end, told.Ends, told.Waves)
	}
	if takes := phaseOf(t, told, trust.Reissue).Takes; takes != 3*RenewTime {
		t.Errorf("with windows it is work of %s", takes)
	}
	if begins := phaseOf(t, told, trust.Refuse).Begins; begins.Before(phaseOf(t, told, trust.Reissue).Ends) {
		t.Errorf("refuse begins %s", begins)
	}
	if all := strings.Join(told.Assumes, "\n"); !strings.Contains(all, "inside nights, outside freezes") {
		t.Errorf("it assumes %s", all)
	}
	// It is open now, and no more when everybody has shown his trust.
	_, end = ends(func(s *Supposed) {
		for _, host := range []string{"h1", "h2", "h3"} {
			s.means("etcd on agent "+host, func(m *Means) { m.AddAtRestart, m.Restart = true, "restart-etcd" })
		}
		s.Windows = map[fleet.Name]*fleet.Window{"soon": {From: "14:00", To: "14:03", Timezone: "UTC"}}
		s.Reissue.Windows = []fleet.Name{"soon"}
	})
	if end != "03 14:03:00" {
		t.Errorf("after the window has closed %s", end)
	}
	told, end = ends(func(*Supposed) {})
	if end != "02 15:33:00" {
		t.Errorf("held by a freeze until %s", end)
	}
	if len(told.Waves) != 2 || told.Waves[1].Window != "nights" || told.Waves[1].Renewed.Format("02 15:04") != "03 22:01" || !told.Waves[1].End.After(told.Waves[1].Renewed) {
		t.Errorf("by window %+v", told.Waves)
	}
	if _, end = ends(func(s *Supposed) { s.Reissue.Urgent = true }); end >= "02 14:10" {
		t.Errorf("urgent, and over %s", end)
	}
	// A soak, and steps that make three waves of four placements.
	_, end = ends(func(s *Supposed) {
		s.Reissue = rollout.Spec{Steps: rollout.DefaultSteps, Soak: fleet.Duration(time.Hour), Urgent: true}
	})
	if end < "02 17:0" || end > "02 17:1" {
		t.Errorf("with three soaks of an hour over %s", end)
	}
}

// Windows that never open are said, and nothing after them is dated.
func TestWindowsThatNeverOpen(t *testing.T) {
	told := inThree(func(s *Supposed) {
		s.Windows = map[fleet.Name]*fleet.Window{
			"nights": {From: "22:00", To: "23:00", Timezone: "UTC"}, "held": {From: "21:00", To: "23:30", Timezone: "UTC", Freeze: true},
		}
		s.Reissue.Windows = []fleet.Name{"nights"}
	}).Foretell(noon)
	reissue := phaseOf(t, told, trust.Reissue)
	if !reissue.Ends.IsZero() || reissue.Begins.IsZero() || !told.Ends.IsZero() || !phaseOf(t, told, trust.Refuse).Begins.IsZero() {
		t.Errorf("dated: %+v", told.Phases)
	}
	if words := strings.Join(reissue.Unknown, ""); !strings.Contains(words, "window nights is closed, and no time comes at which a window is open and no freeze holds") {
		t.Errorf("it says %q", words)
	}
	told = inThree(func(s *Supposed) {
		s.Windows = map[fleet.Name]*fleet.Window{"nights": {From: "22:00", To: "23:00", Timezone: "UTC"}, "held": {From: "21:00", To: "23:30", Timezone: "UTC", Freeze: true}}
	}).Foretell(noon)
	if len(told.Waves) != 2 || told.Waves[0].End.IsZero() || !told.Waves[1].End.IsZero() || !strings.Contains(told.Waves[1].Why, "window nights is closed") {
		t.Errorf("by window %+v", told.Waves)
	}
}
