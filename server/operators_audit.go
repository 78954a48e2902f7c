package server

import (
	"context"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
)

func (o *operators) ListAuditEntries(ctx context.Context, r *connect.Request[api.ListAuditEntriesRequest]) (*connect.Response[api.ListAuditEntriesResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListAuditEntries)
}

func (o *operators) ShowAuditEntry(ctx context.Context, r *connect.Request[api.ShowAuditEntryRequest]) (*connect.Response[api.ShowAuditEntryResponse], error) {
	return answer(ctx, o.Server, r, o.control.ShowAuditEntry)
}

func (o *operators) ProveAuditGrowth(ctx context.Context, r *connect.Request[api.ProveAuditGrowthRequest]) (*connect.Response[api.ProveAuditGrowthResponse], error) {
	return answer(ctx, o.Server, r, o.control.ProveAuditGrowth)
}

func (o *operators) ListCheckpoints(ctx context.Context, r *connect.Request[api.ListCheckpointsRequest]) (*connect.Response[api.ListCheckpointsResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListCheckpoints)
}
