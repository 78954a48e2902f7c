package main

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/agent"
)

func newAgentAcknowledgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acknowledge",
		Short: "End this host's alarm about a store that was restored",
		Long: `When the control plane's store was put back from a copy and restored, each agent
goes on with it and keeps an alarm: as a witness of the audit log it has seen
entries that are not in it any more. No server can end that alarm. Look at what
it says, and at both checkpoints in witness.restored in the state directory;
then end it here, on the host. What was seen is kept beside.

The agent may run meanwhile.`,
		Example: `  rotunda agent acknowledge`,
		Args:    cobra.NoArgs,
	}
	state := cmd.Flags().String("state", agent.DefaultState, "the agent's own `directory`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := agent.Acknowledge(&agent.Config{State: *state}, time.Now()); err != nil {
			return err
		}
		newUI(cmd).say("Acknowledged. What was seen is kept in %s.*", filepath.Join(*state, "witness.restored"))
		return nil
	}
	return cmd
}
