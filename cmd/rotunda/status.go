package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
)

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what every placement serves, and since when that is proven",
		Long: `Shows each placement: the generation in use, the certificate that is served,
the highest level that was shown for it (delivered: the bytes are on the host;
loaded: the process said that it took them; proven: a handshake with the
running process showed it) and since when, the expiry, the state, and in words
what is going on or in the way. Where it is known, it shows the product that
answers on the control path, and how a member of a cluster stands with its slot
(rotunda slots).

Where there are regions it ends with a line for each: how many of its servers
and agents were heard of lately and the newest contact, how much is proven, which
authorities signed what is in use, how long ago its synthetic intents proved
something new, and with how many servers of each region its clients could shake
hands. What is wrong stands below. --regions shows that alone.`,
		Example: `  rotunda status
  rotunda status --service orders
  rotunda status --agent db-7             # an agent by its id, or by its host's name
  rotunda status --regions
  rotunda status --unsettled              # what is under way or in the way, in a fleet of any size
  rotunda status -o json | jq '.placements[] | select(.level != "proven")'`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	filter := placementFlags(cmd, conn)
	only := cmd.Flags().Bool("regions", false, "show how the regions do, and nothing else")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if *only {
				list, err := meetRegions(ctx, s)
				if err != nil {
					return err
				}
				return u.show(*output, list, func() { showRegions(u, list.Regions) })
			}
			whole := proto.Equal(filter, &api.ListPlacementsRequest{})
			u.findHost(ctx, s, filter)
			list, err := listPlacements(ctx, s, u, filter)
			if err != nil {
				return err
			}
			regions := &api.ListRegionsResponse{}
			if whole && *output == formatTable {
				regions, err = meetRegions(ctx, s)
				if err != nil && connect.CodeOf(err) != connect.CodeUnimplemented { // an older server says no more
					return err
				}
			}
			return u.show(*output, list, func() {
				if list.RolledBack != "" {
					u.note("ALARM: %s; nothing is issued, revoked or changed. On the server's host: rotunda restore", list.RolledBack)
				}
				for _, words := range list.LogAlarms {
					u.note("ALARM: %s", words)
				}
				for _, words := range list.AgentAlarms {
					u.note("ALARM: %s", words)
				}
				if list.Unpublished != "" {
					u.note("%s: rotunda audit witnesses", list.Unpublished)
				}
				for _, words := range list.Emergencies {
					u.note("EMERGENCY: %s", words)
				}
				for _, words := range list.RootLists {
					u.note("LISTS: %s", words)
				}
				for _, words := range list.Behind {
					u.note("SYNTHETIC: %s", words)
				}
				statusTable(u, list.Placements).write(u, noneWords(filter))
				if len(list.Placements) > 0 {
					u.say("\n%s", summary(list.Placements))
				}
				if len(regions.GetRegions()) > 0 {
					u.say("")
					showRegions(u, regions.Regions)
				}
			})
		})
	}
	return cmd
}

// noneWords say what it means that the filter chooses none.
func noneWords(filter *api.ListPlacementsRequest) string {
	switch {
	case filter.Unsettled:
		return "Nothing is under way or in the way."
	case proto.Equal(filter, &api.ListPlacementsRequest{}):
		return "There are no placements: no intent selects an agent yet."
	}
	return "There are none like that."
}

// statusTable has a column for products, and one for clusters, where some
// placement has one.
func statusTable(u *ui, placements []*api.PlacementStatus) *table {
	headings := []string{"SERVICE", "INTENT", "AGENT", "INSTANCE"}
	products := slices.ContainsFunc(placements, func(p *api.PlacementStatus) bool { return p.Product != "" })
	clusters := slices.ContainsFunc(placements, func(p *api.PlacementStatus) bool { return p.Cluster != "" })
	if products {
		headings = append(headings, "PRODUCT")
	}
	if clusters {
		headings = append(headings, "CLUSTER")
	}
	t := newTable(append(headings, "GEN", "SERVED", "SHOWN", "EXPIRES", "STATE", "REASON")...)
	for _, p := range placements {
		cells := []any{p.Service, p.Intent, u.hosts.name(p.Agent), p.Instance}
		if products {
			cells = append(cells, p.Product)
		}
		if clusters {
			cells = append(cells, clusterCell(p))
		}
		t.row(append(cells, generation(p), shortSerial(p.Serial), levelCell(u, p),
			u.expiry(p.NotAfter), stateCell(p), reasons(u, p))...)
	}
	return t
}

func clusterCell(p *api.PlacementStatus) cell {
	styles := map[string]style{"waits": faint, "granted": busy, "begun": busy}
	return cell{clusterWords(p), styles[p.Slot]}
}

// clusterWords are the cluster, and how the member stands with its slot.
func clusterWords(p *api.PlacementStatus) string {
	if p.Cluster == "" {
		return ""
	}
	switch p.Slot {
	case "waits":
		return p.Cluster + ": waits for its turn"
	case "granted":
		return p.Cluster + ": has its turn"
	case "begun":
		return p.Cluster + ": out of its steady state"
	}
	return p.Cluster
}

// askedFor says of a rotation that was asked for when it begins.
func askedFor(u *ui, p *api.PlacementStatus) string {
	if p.RotateAt == nil {
		return ""
	}
	if !p.RotateAt.AsTime().After(u.now) {
		return "rotates now"
	}
	return "rotates " + relative(u.now, p.RotateAt)
}

// reasons are what the placement says, and what was asked of it.
func reasons(u *ui, p *api.PlacementStatus) string {
	var texts []string
	for _, text := range []string{reason(p), askedFor(u, p), overrideWords(p)} {
		if text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}

// overrideWords say that a rollout has another profile used than the intent's.
func overrideWords(p *api.PlacementStatus) string {
	if p.ProfileOverride == nil {
		return ""
	}
	return fmt.Sprintf("profile %s, by rollout %s", p.ProfileOverride.Profile, p.ProfileOverride.Rollout)
}

func generation(p *api.PlacementStatus) string {
	if p.Generation == 0 {
		return ""
	}
	return number(p.Generation)
}

// shortSerial is the end of a serial: it begins with the time, which
// neighbours share.
func shortSerial(serial string) string {
	if len(serial) > 8 {
		return "…" + serial[len(serial)-8:]
	}
	return serial
}

func levelCell(u *ui, p *api.PlacementStatus) cell {
	level := word(p.Level)
	switch {
	case p.Level == api.Level_LEVEL_PROVEN:
		return cell{strings.TrimSpace(level + " " + since(u.now, p.ProvenSince)), good}
	case level == "":
		return cell{"nothing", faint}
	}
	return cell{level, warn}
}

func stateCell(p *api.PlacementStatus) cell {
	text, s := word(p.State), plain
	switch p.State {
	case api.State_STATE_STEADY:
		s = good
	case api.State_STATE_ROTATING:
		s = busy
	case api.State_STATE_FAILED:
		s = bad
	case api.State_STATE_ORPHAN:
		s = warn
	case api.State_STATE_WAITING:
		s = faint
	}
	if text == "" {
		text = "unknown"
	}
	if p.Drift {
		text, s = text+", drift", warn
	}
	return cell{text, s}
}

// reason is what the placement says, or what its last failure was.
func reason(p *api.PlacementStatus) string {
	if p.Reason != "" || p.Failure == nil {
		return p.Reason
	}
	text := fmt.Sprintf("generation %d failed at %s: %s", p.Failure.Generation, p.Failure.Step, p.Failure.Reason)
	if p.Failure.Restored {
		text += "; the previous one is back"
	}
	return text
}

// summary counts what matters first.
func summary(placements []*api.PlacementStatus) string {
	proven, failed, rotating, orphans := 0, 0, 0, 0
	for _, p := range placements {
		if p.Level == api.Level_LEVEL_PROVEN {
			proven++
		}
		switch p.State {
		case api.State_STATE_FAILED:
			failed++
		case api.State_STATE_ROTATING:
			rotating++
		case api.State_STATE_ORPHAN:
			orphans++
		}
	}
	text := fmt.Sprintf("%s, %d proven", plural(len(placements), "placement"), proven)
	for _, part := range []struct {
		count int
		word  string
	}{{rotating, "rotating"}, {failed, "failed"}, {orphans, "orphaned"}} {
		if part.count > 0 {
			text += fmt.Sprintf(", %d %s", part.count, part.word)
		}
	}
	return text
}
