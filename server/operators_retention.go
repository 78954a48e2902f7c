package server

import (
	"context"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
)

func (o *operators) ListArchivedCertificates(ctx context.Context, r *connect.Request[api.ListArchivedCertificatesRequest]) (*connect.Response[api.ListArchivedCertificatesResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListArchivedCertificates)
}

func (o *operators) RetentionStatus(ctx context.Context, r *connect.Request[api.RetentionStatusRequest]) (*connect.Response[api.RetentionStatusResponse], error) {
	return answer(ctx, o.Server, r, o.control.RetentionStatus)
}

func (o *operators) RunRetention(ctx context.Context, r *connect.Request[api.RunRetentionRequest]) (*connect.Response[api.RunRetentionResponse], error) {
	return answer(ctx, o.Server, r, o.control.RunRetention)
}
