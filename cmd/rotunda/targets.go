package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

const targetsHelp = `Shows the kinds of servers that an intent's target may name, and what each can
do. With a KIND it shows all about that one: how it is made to take something
new, what its own word is worth, and the lines of agent.yaml by which the agent
reaches it.

  ●  live: at the next handshake, or at a reload
  ◐  when the process starts: Rotunda restarts it by a named command, member by
     member, or leaves it pending
  ·  never: there is no such thing
  ?  the process behind the files knows

What a kind can't do is said at rotunda plan, where an intent asks for it.`

func newTargetsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "targets [KIND]",
		Short:   "Show the kinds of targets and what each can do",
		Long:    targetsHelp,
		Example: "  rotunda targets\n  rotunda targets redis\n  rotunda targets -o yaml",
		Args:    cobra.MaximumNArgs(1),
	}
	format := outputFlag(cmd)
	cmd.ValidArgsFunction = completeKinds
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		u := newUI(cmd)
		if len(args) == 0 {
			return u.showValue(*format, capabilities(), func() { showTargets(u) })
		}
		adapter, err := target.Lookup(fleet.TargetKind(strings.ToLower(args[0])))
		if err != nil {
			return err
		}
		return u.showValue(*format, adapter.Capabilities, func() { showTarget(u, adapter.Capabilities) })
	}
	return cmd
}

func completeKinds(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var kinds []string
	if len(args) == 0 {
		for _, c := range capabilities() {
			kinds = append(kinds, string(c.Kind)+"\t"+c.Title)
		}
	}
	return kinds, cobra.ShellCompDirectiveNoFileComp
}

func capabilities() []target.Capabilities {
	var rows []target.Capabilities
	for _, adapter := range target.Adapters() {
		rows = append(rows, adapter.Capabilities)
	}
	return rows
}

// showTargets is a table to be looked at, eighty columns wide.
func showTargets(u *ui) {
	t := newTable("KIND", "LEAF", "KEY TYPE", "+CA", "-CA", "CRL", "STAPLE", "CONNECTIONS", "BROKEN PAIR")
	for _, c := range capabilities() {
		t.row(string(c.Kind), sign(c.Leaf), sign(c.KeyType), sign(c.AnchorAdd), sign(c.AnchorRemove), sign(c.CRL), sign(c.Staple),
			answered(c.ClosesConnections, cell{"may end", warn}, cell{"stay", good}),
			answered(c.Validates, cell{"refused", good}, cell{"taken", warn}))
	}
	t.write(u, "")
	u.say("\n●  live   ◐  at a restart   ·  never   ?  whoever reads the files knows")
	u.say("rotunda targets KIND shows one in full, with its lines of agent.yaml.")
}

// sign is a moment as a picture.
func sign(when target.When) cell {
	switch {
	case when.Live():
		return cell{"●", good}
	case when == target.AtRestart:
		return cell{"◐", warn}
	case when == target.Never:
		return cell{"·", faint}
	}
	return cell{"?", faint}
}

func answered(a target.Answer, yes, no cell) cell {
	switch a {
	case target.Yes:
		return yes
	case target.No:
		return no
	}
	return cell{"?", faint}
}

// showTarget is one kind in full.
func showTarget(u *ui, c target.Capabilities) {
	u.say("%s: %s\n", c.Kind, c.Title)
	var formats []string
	for _, format := range c.Formats {
		formats = append(formats, string(format))
	}
	u.sheet([]field{
		{"reload", c.Reload}, {"its own word", c.Word}, {"files", c.Owner}, {"formats", strings.Join(formats, ", ")}, {"layout", string(c.Layout)},
		{"certificate", string(c.Leaf)}, {"key of another type", string(c.KeyType)}, {"CA added", string(c.AnchorAdd)}, {"CA removed", string(c.AnchorRemove)},
		{"CRL", string(c.CRL)}, {"staple", string(c.Staple)}, {"needs a restart for", strings.Join(c.NeedsRestart(), ", ")},
		{"ends connections", string(c.ClosesConnections)}, {"close sessions by", c.CloseSessionsBy},
		{"checks what it loads", string(c.Validates)}, {"broken pair", c.BrokenPair},
		{"verify depth", depth(c.VerifyDepth)}, {"preamble", cmp.Or(string(c.Preamble), "none")},
		{"well when", c.Health}, {"measured on", c.Measured}, {"note", c.Note},
	})
	u.heading("Control path")
	lines := control.ControlLines(c.Kind, string(c.Kind))
	if len(lines) == 0 {
		u.say("  none: by the intent's reloadCommand and restartCommand, which agent.yaml names, where there is something to do")
		return
	}
	u.say("  %s", c.Control)
	u.heading("In agent.yaml, by the intent's target.name and fitted to the host")
	for _, line := range lines {
		u.say("  %s", line)
	}
}

func depth(intermediates int) string {
	if intermediates == 0 {
		return "no limit of its own"
	}
	return fmt.Sprintf("%d intermediate(s) in a client's chain", intermediates)
}
