package main

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/agent"
)

func newAgentStatusCommand() *cobra.Command {
	var a await
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show which server this host's agent talks to, and why",
		Long: `Asks the agent on this host, through its socket, which server it talks to, why
that one, and how it stands with the others: the most wanted first. A breaker
that is closed lets the agent try, an open one keeps it away until the rest is
over, and of a half-open one the next try decides.`,
		Example: `  rotunda agent status
  rotunda agent status --state /srv/agent -o json`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(cmd)
	cmd.Flags().StringVar(&a.socket, "socket", "", "the agent's socket (default "+agent.DefaultSocket+", or STATE/agent.sock)")
	cmd.Flags().StringVar(&a.state, "state", "", "the agent's state directory, for its socket")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		u := newUI(cmd)
		status, err := agent.AskStatus(cmd.Context(), a.path())
		if err != nil {
			return err
		}
		return u.showValue(*output, status, func() { showAgentStatus(u, status) })
	}
	return cmd
}

func showAgentStatus(u *ui, s agent.Status) {
	connected := "connected to " + s.Server + " since " + s.Since.Format(time.RFC3339)
	if !s.Connected {
		connected = "not connected; trying " + s.Server
	}
	u.say("agent %s, %s: %s", s.Agent, orElse(regionWords(s.Region), "of no region"), connected)
	u.say("why: %s", s.Why)
	if s.Alarms != "" {
		u.note("ALARM: %s", s.Alarms)
	}
	t := newTable("SERVER", "REGION", "CIRCLE", "KNOWN FROM", "BREAKER", "FAILURES", "REST", "PROBLEM")
	for _, one := range s.Servers {
		styles := map[agent.BreakerState]style{agent.BreakerClosed: good, agent.BreakerHalfOpen: warn, agent.BreakerOpen: bad}
		t.row(one.Address, one.Region, one.Circle, one.From, cell{string(one.Breaker), styles[one.Breaker]},
			strconv.Itoa(one.Failures), restWords(u, one), one.Problem)
	}
	t.write(u, "")
}

func regionWords(region string) string {
	if region == "" {
		return ""
	}
	return "region " + region
}

// restWords say until when a server is left alone, or when the agent goes back
// to it.
func restWords(u *ui, s agent.ServerStatus) string {
	switch {
	case !s.Home.IsZero() && s.Home.After(u.now):
		return "well; back to it " + relative(u.now, timestamppb.New(s.Home))
	case !s.Home.IsZero():
		return "well; back to it at the next look"
	case !s.Rests.IsZero():
		return "tried again " + relative(u.now, timestamppb.New(s.Rests))
	}
	return ""
}
