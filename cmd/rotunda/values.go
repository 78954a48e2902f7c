package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
)

type timestamp = *timestamppb.Timestamp

// span is a flag that holds a time as documents write it: 30d, 36h, 1h30m.
type span struct{ *fleet.Duration }

func (s *span) Type() string { return "duration" }

func (s *span) Set(text string) error { return s.UnmarshalText([]byte(text)) }

func (s *span) String() string {
	if s.Duration == nil || *s.Duration == 0 {
		return ""
	}
	return s.Duration.String()
}

// protoDuration is nil for zero, which the API takes as "not said".
func protoDuration(d fleet.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d.Std())
}

// spanOf is a duration that was said, even if it is zero.
func spanOf(d fleet.Duration) *durationpb.Duration { return durationpb.New(d.Std()) }

func intentFlag(cmd *cobra.Command, conn *connection) *string {
	intent := cmd.Flags().String("intent", "", "only of this `intent`")
	completeFlag(cmd, conn, "intent", intentNames)
	return intent
}

// placementFlags adds the filters of everything that lists placements.
func placementFlags(cmd *cobra.Command, conn *connection) *api.ListPlacementsRequest {
	filter := &api.ListPlacementsRequest{}
	cmd.Flags().StringVar(&filter.Service, "service", "", "only of this `service`")
	cmd.Flags().StringVar(&filter.Intent, "intent", "", "only of this `intent`")
	cmd.Flags().StringVar(&filter.Agent, "agent", "", "only on this `agent`: its id, or the name of its host")
	cmd.Flags().BoolVar(&filter.Unsettled, "unsettled", false, "only those that something is under way at, or in the way of")
	completeFlag(cmd, conn, "service", documentNames("Service"))
	completeFlag(cmd, conn, "intent", intentNames)
	completeFlag(cmd, conn, "agent", agentIDs)
	return filter
}

func completeFlag(cmd *cobra.Command, conn *connection, flag string, names lister) {
	_ = cmd.RegisterFlagCompletionFunc(flag, // fails only for a flag that is not there
		func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
			return conn.offer(cmd, names, prefix), cobra.ShellCompDirectiveNoFileComp
		})
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func clip(text string, length int) string {
	if len(text) > length {
		return text[:length]
	}
	return text
}

// pairs is a map on one line, sorted: "env=prod, rack=7".
func pairs(m map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, key+"="+m[key])
	}
	return strings.Join(all, ", ")
}
