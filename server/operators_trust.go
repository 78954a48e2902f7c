package server

import (
	"context"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
)

func (o *operators) PrepareTrust(ctx context.Context, r *connect.Request[api.PrepareTrustRequest]) (*connect.Response[api.PrepareTrustResponse], error) {
	return answer(ctx, o.Server, r, o.control.PrepareTrust)
}

func (o *operators) BeginTrust(ctx context.Context, r *connect.Request[api.BeginTrustRequest]) (*connect.Response[api.BeginTrustResponse], error) {
	return answer(ctx, o.Server, r, o.control.BeginTrust)
}

func (o *operators) ListTrust(ctx context.Context, r *connect.Request[api.ListTrustRequest]) (*connect.Response[api.ListTrustResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListTrust)
}

func (o *operators) DecideTrust(ctx context.Context, r *connect.Request[api.DecideTrustRequest]) (*connect.Response[api.DecideTrustResponse], error) {
	return answer(ctx, o.Server, r, o.control.DecideTrust)
}

func (o *operators) EndCredential(ctx context.Context, r *connect.Request[api.EndCredentialRequest]) (*connect.Response[api.EndCredentialResponse], error) {
	return answer(ctx, o.Server, r, o.control.EndCredential)
}

func (o *operators) CreateAuthority(ctx context.Context, r *connect.Request[api.CreateAuthorityRequest]) (*connect.Response[api.CreateAuthorityResponse], error) {
	return answer(ctx, o.Server, r, o.control.CreateAuthority)
}

func (o *operators) DecideAuthority(ctx context.Context, r *connect.Request[api.DecideAuthorityRequest]) (*connect.Response[api.DecideAuthorityResponse], error) {
	return answer(ctx, o.Server, r, o.control.DecideAuthority)
}

func (o *operators) ImportAuthority(ctx context.Context, r *connect.Request[api.ImportAuthorityRequest]) (*connect.Response[api.ImportAuthorityResponse], error) {
	return answer(ctx, o.Server, r, o.control.ImportAuthority)
}
