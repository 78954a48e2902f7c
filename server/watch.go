package server

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
)

// lookAgainAfter bounds how old a watch's picture can get when nothing wakes
// it: words such as "not connected" change without a commit.
const lookAgainAfter = 10 * time.Second

// WatchPlacements sends the placements at once and after each change.
func (o *operators) WatchPlacements(ctx context.Context, r *connect.Request[api.ListPlacementsRequest], stream *connect.ServerStream[api.ListPlacementsResponse]) error {
	var last *api.ListPlacementsResponse
	return o.watch(ctx, r.Spec().Procedure, func() error {
		now, err := o.control.ListPlacements(ctx, callerOf(ctx), r.Msg)
		if err != nil || (last != nil && proto.Equal(now, last)) {
			return err
		}
		last = now
		return stream.Send(now)
	})
}

// WatchRollout sends a rollout at once and after each change.
func (o *operators) WatchRollout(ctx context.Context, r *connect.Request[api.DescribeRolloutRequest], stream *connect.ServerStream[api.DescribeRolloutResponse]) error {
	var last *api.DescribeRolloutResponse
	return o.watch(ctx, r.Spec().Procedure, func() error {
		now, err := o.control.DescribeRollout(ctx, callerOf(ctx), r.Msg)
		if err != nil || (last != nil && proto.Equal(now, last)) {
			return err
		}
		last = now
		return stream.Send(now)
	})
}

// WatchAuditEntries sends entries as they get their index, from one on.
func (o *operators) WatchAuditEntries(ctx context.Context, r *connect.Request[api.ListAuditEntriesRequest], stream *connect.ServerStream[api.ListAuditEntriesResponse]) error {
	next := &api.ListAuditEntriesRequest{From: r.Msg.From, Limit: r.Msg.Limit}
	return o.watch(ctx, r.Spec().Procedure, func() error {
		for {
			page, err := o.control.ListAuditEntries(ctx, callerOf(ctx), next)
			if err != nil || len(page.Entries) == 0 {
				return err
			}
			next.From = page.Entries[len(page.Entries)-1].Index + 1
			if err := stream.Send(page); err != nil {
				return err
			}
		}
	})
}

// restAfter is how much longer a watch rests than its last look took: what a large
// fleet's picture costs is spent on one watch a quarter of the time at most.
const restAfter = 3

// watch calls look at once, after each wake-up and now and then, until the
// caller, his certificate or the server goes.
func (o *operators) watch(ctx context.Context, procedure string, look func() error) error {
	wake, stop := o.control.Watch()
	defer stop()
	ticker := time.NewTicker(lookAgainAfter)
	defer ticker.Stop()
	for {
		began := time.Now()
		err := o.control.StillHolds(ctx, callerOf(ctx))
		if err == nil {
			err = look()
		}
		if err != nil {
			return connectError(o.log, procedure, err)
		}
		rested := time.After(restAfter * time.Since(began))
		for woken := false; !woken || rested != nil; {
			select {
			case <-rested:
				rested = nil
			case <-wake:
				woken = true
			case <-ticker.C:
				woken = true
			case <-ctx.Done():
				return nil
			case <-o.streams.Done():
				return connectError(o.log, procedure, errStopping)
			}
		}
	}
}
