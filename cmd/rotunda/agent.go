package main

import "github.com/spf13/cobra"

func newAgentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this host, or change the record of one",
		Example: `  rotunda agent label 0199c2f4-… rack=7
  rotunda agent retire 0199c2f4-… --reason "host is gone"`,
	}
	addAgentVerbs(cmd)
	return cmd
}
