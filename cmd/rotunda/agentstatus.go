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
		Short: "Show which server this host's agent talks to, why, and who cosigned its log",
		Long: `Asks the agent on this host, through its socket, which server it talks to, why
that one, and how it stands with the others: the most wanted first. A breaker
that is closed lets the agent try, an open one keeps it away until the rest is
over, and of a half-open one the next try decides.

Where agent.yaml names witnesses, it shows how much of the audit log that servers
showed as many of them as are required have cosigned, and how far each is that
was seen since the agent's start. What was shown and is not cosigned within ten
minutes is an alarm; it stays, over restarts, until it is.`,
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
	if s.Witnesses != nil {
		showWitnesses(u, *s.Witnesses)
	}
}

func showWitnesses(u *ui, w agent.WitnessesStatus) {
	u.say("")
	u.say("audit log: %d entries shown, %d cosigned by %d of the %d witnesses in agent.yaml", w.Shown, w.Cosigned, w.Required, len(w.Witnesses))
	if w.Awaited > 0 {
		u.say("awaited: the cosignatures of the checkpoint of %d entries, since %s", w.Awaited, w.Since.Format(time.RFC3339))
	}
	t := newTable("WITNESS", "COSIGNED")
	for _, one := range w.Witnesses {
		how := good
		if one.Cosigned < w.Awaited && w.Overdue {
			how = bad
		}
		t.row(one.Name, cell{strconv.FormatUint(one.Cosigned, 10), how})
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
