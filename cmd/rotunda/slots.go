package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const slotsHelp = `Shows the slots: leave to take one member of a cluster out of its steady state.
At most maxUnavailable members of a cluster have one at a time.

  granted   the agent may begin; a slot that is not begun in time lapses
  begun     the agent is at it; time alone never ends this one
  ended     the member is well again, or an operator released the slot
  lapsed    it was not begun in time

A slot that was begun and whose host is gone holds up its cluster until it is
released by hand: rotunda slots release.`

func newSlotsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "slots",
		Short: "Show which members of clusters are, or may be, out of their steady state",
		Long:  slotsHelp,
		Example: `  rotunda slots
  rotunda slots --cluster orders-cache --ended
  rotunda slots release 0199c2f4-… --reason "host burnt down"`,
		Args: noSlotWord,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.ListSlotsRequest{}
	cmd.Flags().StringVar(&request.Cluster, "cluster", "", "only of this `cluster`")
	cmd.Flags().BoolVar(&request.Ended, "ended", false, "those that are over, too: the newest hundred")
	completeFlag(cmd, conn, "cluster", clusterNames)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			list, err := invoke(ctx, s.ListSlots, request)
			if err != nil {
				return err
			}
			u.meetHosts(ctx, s, *output)
			return u.show(*output, list, func() { slotTable(u, list.Slots).write(u, noSlots(request)) })
		})
	}
	cmd.AddCommand(newSlotsReleaseCommand())
	return cmd
}

// noSlotWord refuses a word that is no command of slots.
func noSlotWord(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s has no command %q: it is release, or nothing", cmd.CommandPath(), args[0])
	}
	return nil
}

func noSlots(request *api.ListSlotsRequest) string {
	where := ""
	if request.Cluster != "" {
		where = " in cluster " + request.Cluster
	}
	if request.Ended {
		return "There has been no slot" + where + "."
	}
	return "No slot is held" + where + "."
}

func slotTable(u *ui, slots []*api.SlotInfo) *table {
	t := newTable("CLUSTER", "TARGET", "AGENT", "INTENT", "STATE", "SLOT", "WHAT")
	for _, slot := range slots {
		t.row(slot.Cluster, slot.Target, u.hosts.name(slot.Agent), slot.Intent, slotCell(slot), slot.Id, slotWords(u, slot))
	}
	return t
}

func slotCell(slot *api.SlotInfo) cell {
	s := faint
	switch slot.State {
	case "granted":
		s = good
	case "begun":
		s = busy
	case "lapsed":
		s = warn
	}
	return cell{slot.State, s}
}

// slotWords say what goes on, or how it ended.
func slotWords(u *ui, slot *api.SlotInfo) string {
	switch slot.State {
	case "granted":
		if slot.StartBy != nil && slot.StartBy.AsTime().Before(u.now) {
			return fmt.Sprintf("was to be begun %s; held until its agent says that it can't begin", relative(u.now, slot.StartBy))
		}
		return fmt.Sprintf("granted %s; it lapses %s unless it is begun", relative(u.now, slot.GrantedAt), relative(u.now, slot.StartBy))
	case "begun":
		return fmt.Sprintf("out of its steady state for %s", strings.TrimSuffix(relative(u.now, slot.BegunAt), " ago"))
	case "ended":
		text := "ended " + relative(u.now, slot.EndedAt)
		if slot.EndedBy != "" {
			text += " by " + slot.EndedBy
		}
		return text
	case "lapsed":
		return "was not begun in time, " + relative(u.now, slot.EndedAt)
	}
	return ""
}

func newSlotsReleaseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release ID",
		Short: "Take back a slot that its agent can't end any more",
		Long: `Ends a slot by hand, so that the cluster's next member may go. It is for a host
that is gone: while the member is really away, the cluster would lose another
one. It shows first whose slot it is, and asks on a terminal; elsewhere it wants
--yes.`,
		Example: `  rotunda slots release 0199c2f4-… --reason "host burnt down"
  rotunda slots release 0199c2f4-… --reason "host burnt down" --yes`,
		Args: cobra.ExactArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	reason := cmd.Flags().String("reason", "", "why, for the audit log; it must be given")
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.ValidArgsFunction = completeFirst(conn, slotIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(*reason) == "" {
			return usagef("say why: a slot is released by hand only with --reason TEXT")
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			return releaseSlot(ctx, s, u, args[0], *reason, *yes)
		})
	}
	return cmd
}

func releaseSlot(ctx context.Context, s *server, u *ui, id, reason string, yes bool) error {
	slot, err := findSlot(ctx, s, id)
	if err != nil {
		return err
	}
	u.hosts = knownHosts(ctx, s)
	u.effects("- slot "+slot.Id, []string{
		fmt.Sprintf("target %s of cluster %s on agent %s (%s), intent %s: %s", slot.Target, slot.Cluster, u.hosts.name(slot.Agent), slot.Agent, slot.Intent, slotWords(u, slot)),
		fmt.Sprintf("the next member of cluster %s may go, whether this one is well or not", slot.Cluster),
	})
	if err := u.confirm(yes, "release slot "+slot.Id+"?"); err != nil {
		return err
	}
	done, err := invoke(ctx, s.ReleaseSlot, &api.ReleaseSlotRequest{Id: slot.Id, Reason: reason})
	if err != nil {
		return err
	}
	u.say("Released. Audit entry %s.", done.AuditId)
	return nil
}

// findSlot finds a slot that is held. One that is over has nothing to release.
func findSlot(ctx context.Context, s *server, id string) (*api.SlotInfo, error) {
	for _, ended := range []bool{false, true} { // of those that are over only the newest are listed
		list, err := invoke(ctx, s.ListSlots, &api.ListSlotsRequest{Ended: ended})
		if err != nil {
			return nil, err
		}
		for _, slot := range list.Slots {
			switch {
			case slot.Id != id:
			case slot.State == "ended" || slot.State == "lapsed":
				return nil, fault.New(fault.Conflict, "slot %s of cluster %s is over already: %s %s", id, slot.Cluster, slot.State, slot.EndedAt.AsTime().Format(time.RFC3339))
			default:
				return slot, nil
			}
		}
	}
	return nil, fault.New(fault.NotFound, "no slot %s is held", id).WithRemedy("rotunda slots lists those that are")
}

func slotIDs(ctx context.Context, s *server) ([]string, error) {
	list, err := invoke(ctx, s.ListSlots, &api.ListSlotsRequest{})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, slot := range list.Slots {
		ids = append(ids, slot.Id+"\t"+slot.Cluster+" "+slot.Target+" "+slot.State)
	}
	return ids, nil
}

// clusterNames are the clusters that placements are members of.
func clusterNames(ctx context.Context, s *server) ([]string, error) {
	list, err := invoke(ctx, s.ListPlacements, &api.ListPlacementsRequest{Limit: listedAtOnce})
	if err != nil {
		return nil, err
	}
	var names []string
	seen := map[string]bool{}
	for _, p := range list.Placements {
		if p.Cluster != "" && !seen[p.Cluster] {
			seen[p.Cluster] = true
			names = append(names, p.Cluster)
		}
	}
	return names, nil
}
