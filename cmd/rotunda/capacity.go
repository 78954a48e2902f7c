package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/capacity"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// reckoned is what rotunda capacity shows.
type reckoned struct {
	Ask     capacity.Ask     `json:"ask"`
	Need    capacity.Need    `json:"need"`
	Figures capacity.Figures `json:"figures"`
}

func newCapacityCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capacity",
		Short: "Reckon what an installation needs; no server is asked",
		Long: `Reckons signatures, handshakes, audit entries, storage, memory and connections of
an installation, and how long it takes to make up for an outage, from figures that
were measured. Their table stands below the result with where each is from.
--figures takes those of a run on your own machine: rotunda bench … -o json.

What is said of storage is of SQLite. Two servers or more need a PostgreSQL
database, whose own CPU time and memory are not reckoned with.`,
		Example: `  rotunda capacity --placements 100000 --agents 20000 --lifetime 24h
  rotunda capacity --placements 100000 --agents 20000 --lifetime 24h --servers 3 --outage 4h --figures fleet.json`,
		Args: cobra.NoArgs,
	}
	output, flags := outputFlag(cmd), cmd.Flags()
	ask := capacity.Ask{}
	lifetime, retention, outage := fleet.Duration(24*time.Hour), fleet.Duration(90*24*time.Hour), fleet.Duration(time.Hour)
	flags.IntVar(&ask.Placements, "placements", 0, "how many certificates are in use")
	flags.IntVar(&ask.Agents, "agents", 0, "how many hosts have an agent (default: as many as placements)")
	flags.IntVar(&ask.Servers, "servers", 1, "how many servers there are")
	flags.IntVar(&ask.Cores, "cores", 2, "how many cores each of them has")
	flags.Var(&span{&lifetime}, "lifetime", "how `long` certificates live")
	flags.Float64Var(&ask.RenewAt, "renew-at", 0.6, "after which share of their lifetime they are renewed, on the whole")
	flags.Float64Var(&ask.Canaries, "canaries", 0, "client certificates that are signed to try a process, each rotation")
	flags.Var(&span{&retention}, "retention", "how `long` records stay after the certificate has ended")
	flags.Var(&span{&outage}, "outage", "how `long` all servers are away")
	files := flags.StringArray("figures", nil, "take figures from this `file`, a benchmark's JSON; may be repeated")
	_ = cmd.MarkFlagRequired("placements")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		u, figures := newUI(cmd), capacity.Measured()
		for _, path := range *files {
			content, err := os.ReadFile(path)
			if err != nil {
				return fault.Wrap(fault.NotFound, err, "read the figures")
			}
			if figures, err = figures.With(path, content); err != nil {
				return err
			}
		}
		if !flags.Changed("agents") {
			ask.Agents = ask.Placements
		}
		ask.Lifetime, ask.Retention, ask.Outage = lifetime.Std(), retention.Std(), outage.Std()
		need, err := capacity.Reckon(ask, figures)
		if err != nil {
			return err
		}
		return u.showValue(*output, reckoned{ask, need, figures}, func() { u.showCapacity(ask, need, figures) })
	}
	return cmd
}

func (u *ui) showCapacity(ask capacity.Ask, need capacity.Need, figures capacity.Figures) {
	t := newTable("WHAT", "HOW MUCH")
	for _, row := range [][2]string{
		{"signatures", fmt.Sprintf("%.2f a second", need.Signatures)},
		{"handshakes of agents", fmt.Sprintf("%.2f a second", need.Handshakes)},
		{"audit entries", fmt.Sprintf("%.2f a second", need.Entries)},
		{"the store grows by", bytesInWords(need.PerDay) + " a day"},
		{"certificates at retention", bytesInWords(need.AtRetention)},
		{"the audit log, kept for good", bytesInWords(need.LogPerYear) + " a year"},
		{"connections to each server", fmt.Sprint(need.Connections)},
		{"memory of each server", bytesInWords(need.Memory)},
		{"CPU of each server", fmt.Sprintf("%.0f %% of a core", 100*need.CPU)},
		{"after an outage of " + fleet.Duration(ask.Outage).String(), fmt.Sprintf("%.0f placements overdue, %.0f certificates a second, made up for in %s", need.Overdue, need.Peak, drained(need.Drain))},
		{"what limits", need.Limit},
	} {
		t.row(row[0], row[1])
	}
	t.write(u, "")
	u.say("")
	from := newTable("FIGURE", "OF", "VALUE", "FROM")
	for _, one := range figures {
		from.row(one.Key, one.What, fmt.Sprintf("%.4g %s", one.Value, one.Unit), one.Source)
	}
	from.write(u, "")
}

func drained(d time.Duration) string {
	if d < 0 {
		return "no time at all: it never is"
	}
	return d.Round(time.Second).String()
}

func bytesInWords(n float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", n/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.1f KiB", n/(1<<10))
}
