package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/target"
)

const targetsHelp = `Shows the kinds of servers that an intent's target may name, and what each can
do: when it takes a new certificate or CA, whether that ends connections, and
what happens to it with a pair that does not fit.

  handshake   files are read at each handshake: nothing has to be done
  reload      after the reload command
  restart     only when the process starts: member by member
  never       there is no such thing
  unknown     the process behind the files knows`

func newTargetsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "targets",
		Short:   "Show the kinds of targets and what each can do",
		Long:    targetsHelp,
		Example: "  rotunda targets\n  rotunda targets -o yaml",
		Args:    cobra.NoArgs,
	}
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		u := newUI(cmd)
		return u.showValue(*format, capabilities(), func() { showTargets(u) })
	}
	return cmd
}

func capabilities() []target.Capabilities {
	var rows []target.Capabilities
	for _, adapter := range target.Adapters() {
		rows = append(rows, adapter.Capabilities)
	}
	return rows
}

func showTargets(u *ui) {
	t := newTable("KIND", "LEAF", "KEY TYPE", "CA ADDED", "CA REMOVED", "CRL", "STAPLE", "ENDS CONNECTIONS", "VALIDATES", "FORMATS")
	for _, c := range capabilities() {
		var formats []string
		for _, format := range c.Formats {
			formats = append(formats, string(format))
		}
		t.row(string(c.Kind), string(c.Leaf), string(c.KeyType), string(c.AnchorAdd), string(c.AnchorRemove),
			string(c.CRL), string(c.Staple), string(c.ClosesConnections), string(c.Validates), strings.Join(formats, " "))
	}
	t.write(u, "")
	for _, c := range capabilities() {
		u.heading(string(c.Kind) + ": " + c.Title)
		u.sheet([]field{
			{"reload", c.Reload}, {"layout", string(c.Layout)}, {"needs restart for", strings.Join(c.NeedsRestart(), ", ")},
			{"broken pair", c.BrokenPair}, {"close sessions by", c.CloseSessionsBy},
			{"measured on", c.Measured}, {"note", c.Note},
		})
	}
}
