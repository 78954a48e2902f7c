package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
)

func (u *ui) compromiseTable(all []*api.Compromise) {
	t := newTable("ID", "WHAT", "BEGUN", "BY", "CONTAINED", "RECOVERED", "STANDS AT")
	for _, one := range all {
		stands := u.compromiseWords(one)
		if one.EndedAt != nil && (one.ContainedAt == nil || one.RecoveredAt == nil) {
			stands = "given up"
		}
		t.row(one.Id, u.fallenName(one), relative(u.now, one.BegunAt), one.By, u.reachedCell(took(one.BegunAt, one.ContainedAt)), u.reachedCell(took(one.BegunAt, one.RecoveredAt)), stands)
	}
	t.write(u, "Nothing was ever said to be in wrong hands.")
}

func (u *ui) reachedCell(after string) cell {
	if after == "" {
		return cell{"not yet", busy}
	}
	return cell{"after " + after, good}
}

// fallenName is what is in wrong hands, in words.
func (u *ui) fallenName(one *api.Compromise) string {
	name := one.Name
	if one.Kind == "agent" {
		name = u.hosts.name(name)
	}
	words := one.Kind + " " + name
	for _, label := range slices.Sorted(maps.Keys(one.Labels)) {
		words += fmt.Sprintf(" %s=%s", label, one.Labels[label])
	}
	if one.Rehearsal {
		words += " (rehearsal)"
	}
	return words
}

func (u *ui) showCompromise(one *api.Compromise) {
	u.sheet([]field{
		{"compromise", one.Id}, {"what", u.fallenName(one)}, {"note", one.Note}, {"by", one.By},
		{"begun", exact(u.now, one.BegunAt)}, {"over", exact(u.now, one.EndedAt)},
		{"revocation", one.Revocation}, {"rollout", one.Rollout}, {"trust change", one.TrustChange},
	})
	u.times(one)
	u.say("")
	u.stepTable(one)
	u.remaining(one)
}

// times are the two figures that everybody asks for.
func (u *ui) times(one *api.Compromise) {
	contained, recovered := took(one.BegunAt, one.ContainedAt), took(one.BegunAt, one.RecoveredAt)
	u.sheet([]field{{"time to contain", orElse(contained, "not contained yet")}, {"time to recover", orElse(recovered, "not recovered yet")}})
}

// mostWaitsShown bounds how many who hold a step up are shown.
const mostWaitsShown = 10

func (u *ui) stepTable(one *api.Compromise) {
	t := newTable("STEP", "DONE", "OF", "HELD UP BY", "WHY")
	var remedies []string
	for _, step := range one.Steps {
		name := cell{step.Name, busy}
		if step.Complete {
			name.style = good
		}
		who, why := "", ""
		if len(step.Waits) > 0 {
			who, why = u.waitName(step.Waits[0].Who), step.Waits[0].Reason
		}
		t.row(name, fmt.Sprint(step.Done), fmt.Sprint(step.Of), who, why)
		for i, wait := range step.Waits {
			if i > 0 && i < mostWaitsShown {
				t.row("", "", "", u.waitName(wait.Who), wait.Reason)
			}
			if wait.Remedy != "" && !slices.Contains(remedies, wait.Remedy) {
				remedies = append(remedies, wait.Remedy)
			}
		}
		if more := len(step.Waits) - mostWaitsShown; more > 0 {
			t.row("", "", "", fmt.Sprintf("and %d more", more), "")
		}
	}
	t.write(u, "There is nothing to do.")
	for i, remedy := range remedies {
		if i == mostWaitsShown {
			break
		}
		u.hint(remedy)
	}
}

// waitName shows an agent by its host.
func (u *ui) waitName(who string) string {
	before, id, ok := strings.Cut(who, "agent ")
	if !ok {
		return who
	}
	return before + u.hosts.name(id)
}

// remaining says who takes what was revoked all the same.
func (u *ui) remaining(one *api.Compromise) {
	if len(one.Remains) == 0 {
		return
	}
	u.heading(fmt.Sprintf("What remains until %s, when the last of it ends", exact(u.now, one.RemainsUntil)))
	for _, words := range one.Remains {
		u.say("- %s", words)
	}
}
