package main

import (
	"fmt"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/trust"
)

// showChange prints a change of trust for somebody who did not begin it: where
// it stands, who holds it up, what to do, and who has come how far.
func (u *ui) showChange(change *api.TrustChange) {
	u.drawn("", u.changeTitle(change))
	u.say("")
	u.drawn("  ", u.changePath(change))
	u.say("")
	for _, line := range changeWords(u, change) {
		u.say("  %s", line)
	}
	if len(change.Unprovable) > 0 {
		u.tell("  ", u.hosts.spoken(fmt.Sprintf("unprovable: whether %s would still take what is under %s; its key is elsewhere, so no certificate can be tried",
			strings.Join(listed(change.Unprovable), ", "), change.Old.GetRoot())), warn)
	}
	if change.EndedAt != nil && change.Foreign && !change.Provable && !change.Back {
		u.tell("  ", fmt.Sprintf("unprovable, and so it stays: whether anybody would still take what is under %s; its key is elsewhere", change.Old.GetRoot()), warn)
	}
	for _, law := range change.SetAside {
		u.tell("  ", "sets aside "+law, bad)
	}
	if change.EndedAt != nil {
		return
	}
	u.showWaits(change)
	u.showBlocked(change.Parties)
	u.showAdoption(change)
	u.showHolders(change)
}

func (u *ui) changeTitle(change *api.TrustChange) string {
	from, to := change.Old.GetIssuing(), change.New.GetIssuing()
	if change.Kind == "root" {
		from, to = change.Old.GetRoot(), change.New.GetRoot()
	}
	title := fmt.Sprintf("%s → %s", from, to)
	if change.Back {
		title = fmt.Sprintf("%s → %s, turned back", to, from)
	}
	what := "Trust change of the " + change.Kind
	if change.Standby {
		what, title = "Root that stands by", fmt.Sprintf("%s, beside %s", to, from)
		if change.Back {
			title = fmt.Sprintf("%s, given up", from)
		}
	}
	return u.paint(strong, printable(fmt.Sprintf("%s: %s", what, title))) + u.paint(faint, "  "+change.Id)
}

// drawn prints a line that is painted already, and printable.
func (u *ui) drawn(indent, line string) { fmt.Fprintln(u.out, indent+line) }

// changePath is the phases, with the one that the change is at.
func (u *ui) changePath(change *api.TrustChange) string {
	var steps []string
	at := trust.Phase(change.Phase)
	for _, phase := range trust.Phases {
		if skips(change.Kind, phase) {
			continue
		}
		switch {
		case phase == at:
			steps = append(steps, u.paint(strong, "▶ "+string(phase)))
		case phase.Before(at):
			steps = append(steps, u.paint(good, "✓ "+string(phase)))
		default:
			steps = append(steps, u.paint(faint, "· "+string(phase)))
		}
	}
	return strings.Join(steps, "  ")
}

// skips says which phases a change of an issuing authority has not: its anchor
// stays.
func skips(kind string, phase trust.Phase) bool {
	if kind == "root" {
		return false
	}
	switch phase {
	case trust.Distribute, trust.Unbridge, trust.Withdraw, trust.Refuse:
		return true
	}
	return false
}

func changeWords(u *ui, change *api.TrustChange) (lines []string) {
	lines = append(lines, fmt.Sprintf("begun %s by %s: %s", relative(u.now, change.BegunAt), change.BegunBy, orElse(change.Reason, "no reason was given")))
	switch {
	case change.EndedAt != nil:
		lines = append(lines, "ended "+relative(u.now, change.EndedAt))
	case change.Back:
		lines = append(lines, "it is being turned back: old and new are exchanged")
	case change.Standby:
		lines = append(lines, "rotunda trust failover puts it in the place of "+change.Old.GetRoot()+"; rotunda trust back gives it up")
	case trust.Phase(change.Phase).Before(trust.Withdraw):
		lines = append(lines, "it can still be turned back: rotunda trust back --reason …")
	default:
		lines = append(lines, "from withdraw on it can't be turned back")
	}
	if change.EndedAt == nil && (!change.Standby || change.Back) {
		lines = append(lines, fmt.Sprintf("it may go on by itself through %s", change.Through))
	}
	if words := noticeWords(change.Notices); words != "" {
		lines = append(lines, words)
	}
	if change.Bridge != "" {
		lines = append(lines, "bridge: "+change.Bridge)
	}
	return lines
}

// mostShown bounds how many of one sort are listed; the rest is counted.
const mostShown = 20

func (u *ui) showWaits(change *api.TrustChange) {
	u.say("")
	if change.Action != "" {
		u.say("Next: %s, in a moment.", change.Action)
	}
	if len(change.Waits) == 0 {
		return
	}
	u.tell("", fmt.Sprintf("What it waits for (%d):", len(change.Waits)), strong)
	for i, wait := range change.Waits {
		if i == mostShown {
			u.say("  … and %d more: --output json has all", len(change.Waits)-mostShown)
			break
		}
		who := wait.Who
		if wait.Yours {
			who += ", that is you,"
		}
		u.tell("  ", u.hosts.spoken(strings.TrimSpace(who+" "+wait.Reason)), warn)
		if wait.Remedy != "" {
			u.say("      %s", wait.Remedy)
		}
	}
}

// showBlocked names the edges that nobody could look at: whoever reads that all
// have adopted should know on what no handshake was tried.
func (u *ui) showBlocked(parties []*api.TrustParty) {
	var lines []string
	for _, party := range parties {
		lines = append(lines, party.Blocked...)
	}
	if len(lines) == 0 {
		return
	}
	u.say("")
	u.tell("", fmt.Sprintf("What can't be looked at, since the path is blocked (%d); it holds nothing, and shows nothing of trust:", len(lines)), strong)
	for _, line := range listed(lines) {
		u.tell("  ", u.hosts.spoken(line), warn)
	}
	u.say("      open the path, or mend the address that the server's Service or intent names; rotunda graph shows it")
}

func (u *ui) showAdoption(change *api.TrustChange) {
	if len(change.Parties) == 0 {
		return
	}
	u.say("")
	ready := 0
	t := newTable("RELYING PARTY", "SERVICE", "HAS", "WANTED", "SINCE", "WHAT")
	for _, party := range change.Parties {
		done := adopted(party)
		if done {
			ready++
		}
		words, s := "ready", good
		switch {
		case party.Excused != "":
			words, s = "excused: "+party.Excused, faint
		case party.Away:
			words, s = "its agent is not connected", bad
		case !done:
			words, s = "not yet", warn
		}
		if done && party.Away {
			words, s = "ready; its agent is not connected", warn
		}
		t.row(cell{u.hosts.spoken(party.Name), plain}, party.Service, cell{orElse(party.Has, "nothing"), s}, party.Needs, relative(u.now, party.Since), cell{words, s})
	}
	what := "trust " + change.New.GetRoot()
	if !trust.Phase(change.Phase).Before(trust.Refuse) {
		what = "have let go of " + change.Old.GetRoot()
	}
	u.tell("", fmt.Sprintf("%d of %d %s, each at the level that its kind can show:", ready, len(change.Parties), what), strong)
	t.rows = t.rows[:min(len(t.rows), 5*mostShown)]
	t.write(u, "")
}

func adopted(party *api.TrustParty) bool {
	order := map[string]int{"": 0, "delivered": 1, "loaded": 2, "proven": 3}
	return order[party.Has] >= order[party.Needs]
}

func (u *ui) showHolders(change *api.TrustChange) {
	if len(change.Holders) == 0 {
		return
	}
	u.say("")
	old := change.Old.GetIssuing()
	u.tell("", fmt.Sprintf("%s under %s:", plural(len(change.Holders), "live certificate"), old), strong)
	t := newTable("HOLDER", "UNTIL", "WHAT")
	for _, holder := range change.Holders[:min(len(change.Holders), 5*mostShown)] {
		words := "Rotunda renews it once " + change.New.GetIssuing() + " signs"
		switch {
		case holder.Excused != "":
			words = "excused: " + holder.Excused
		case holder.PlacementId == "":
			words = holder.Remedy
		case holder.Asked && !trust.Phase(change.Phase).Before(trust.Reissue):
			words = "being renewed"
		case trust.Phase(change.Phase) == trust.Reissue:
			words = "its turn to be renewed comes"
		}
		t.row(u.hosts.spoken(holder.Name), relative(u.now, holder.NotAfter), words)
	}
	t.write(u, "")
}
