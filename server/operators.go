package server

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/control"
)

// Limits on what operators send. A document file is at most 1 MiB.
const (
	maxOperatorRequest = 32 << 20
	headerTimeout      = 10 * time.Second
	idleTimeout        = 2 * time.Minute
)

// operatorServer serves operators over mutual TLS.
func (s *Server) operatorServer() *http.Server {
	return &http.Server{
		Handler:           s.withStore(s.byCertificate(s.operatorHandler())),
		TLSConfig:         s.identity.tls(tls.RequireAndVerifyClientCert, "h2", "http/1.1"),
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: quiet(s.log),
	}
}

// socketServer serves operators on this machine without TLS.
func (s *Server) socketServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: s.withStore(s.byUID(s.operatorHandler())), ConnContext: peerContext, Protocols: protocols,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, ErrorLog: quiet(s.log),
	}
}

func (s *Server) operatorHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(apiconnect.NewOperatorServiceHandler(&operators{s},
		connect.WithReadMaxBytes(maxOperatorRequest),
		connect.WithRecover(func(_ context.Context, spec connect.Spec, _ http.Header, reason any) error {
			return connectError(s.log, spec.Procedure, panicked(reason))
		})))
	return mux
}

// operators answers the calls of OperatorService by the verbs of control.
type operators struct{ *Server }

// answer carries one call to its verb and back.
func answer[Req, Res any](ctx context.Context, s *Server, r *connect.Request[Req], verb func(context.Context, control.Caller, *Req) (*Res, error)) (*connect.Response[Res], error) {
	response, err := verb(ctx, callerOf(ctx), r.Msg)
	if err != nil {
		return nil, connectError(s.log, r.Spec().Procedure, err)
	}
	return connect.NewResponse(response), nil
}

func (o *operators) Info(ctx context.Context, r *connect.Request[api.InfoRequest]) (*connect.Response[api.InfoResponse], error) {
	return answer(ctx, o.Server, r, o.control.Info)
}

func (o *operators) Plan(ctx context.Context, r *connect.Request[api.PlanRequest]) (*connect.Response[api.PlanResponse], error) {
	return answer(ctx, o.Server, r, o.control.Plan)
}

func (o *operators) Apply(ctx context.Context, r *connect.Request[api.ApplyRequest]) (*connect.Response[api.ApplyResponse], error) {
	return answer(ctx, o.Server, r, o.control.Apply)
}

func (o *operators) ListDocuments(ctx context.Context, r *connect.Request[api.ListDocumentsRequest]) (*connect.Response[api.ListDocumentsResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListDocuments)
}

func (o *operators) DeleteDocument(ctx context.Context, r *connect.Request[api.DeleteDocumentRequest]) (*connect.Response[api.DeleteDocumentResponse], error) {
	return answer(ctx, o.Server, r, o.control.DeleteDocument)
}

func (o *operators) ReplayPolicy(ctx context.Context, r *connect.Request[api.ReplayPolicyRequest]) (*connect.Response[api.ReplayPolicyResponse], error) {
	return answer(ctx, o.Server, r, o.control.ReplayPolicy)
}

func (o *operators) CreateToken(ctx context.Context, r *connect.Request[api.CreateTokenRequest]) (*connect.Response[api.CreateTokenResponse], error) {
	return answer(ctx, o.Server, r, o.control.CreateToken)
}

func (o *operators) ListTokens(ctx context.Context, r *connect.Request[api.ListTokensRequest]) (*connect.Response[api.ListTokensResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListTokens)
}

func (o *operators) RevokeToken(ctx context.Context, r *connect.Request[api.RevokeTokenRequest]) (*connect.Response[api.RevokeTokenResponse], error) {
	return answer(ctx, o.Server, r, o.control.RevokeToken)
}

func (o *operators) ListServers(ctx context.Context, r *connect.Request[api.ListServersRequest]) (*connect.Response[api.ListServersResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListServers)
}

func (o *operators) ListRegions(ctx context.Context, r *connect.Request[api.ListRegionsRequest]) (*connect.Response[api.ListRegionsResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListRegions)
}

func (o *operators) ListAgents(ctx context.Context, r *connect.Request[api.ListAgentsRequest]) (*connect.Response[api.ListAgentsResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListAgents)
}

func (o *operators) LabelAgent(ctx context.Context, r *connect.Request[api.LabelAgentRequest]) (*connect.Response[api.LabelAgentResponse], error) {
	return answer(ctx, o.Server, r, o.control.LabelAgent)
}

func (o *operators) Revoke(ctx context.Context, r *connect.Request[api.RevokeRequest]) (*connect.Response[api.RevokeResponse], error) {
	return answer(ctx, o.Server, r, o.control.Revoke)
}

func (o *operators) ListRevocations(ctx context.Context, r *connect.Request[api.ListRevocationsRequest]) (*connect.Response[api.ListRevocationsResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListRevocations)
}

func (o *operators) Compromise(ctx context.Context, r *connect.Request[api.CompromiseRequest]) (*connect.Response[api.CompromiseResponse], error) {
	return answer(ctx, o.Server, r, o.control.Compromise)
}

func (o *operators) ListCompromises(ctx context.Context, r *connect.Request[api.ListCompromisesRequest]) (*connect.Response[api.ListCompromisesResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListCompromises)
}

func (o *operators) EndCompromise(ctx context.Context, r *connect.Request[api.EndCompromiseRequest]) (*connect.Response[api.EndCompromiseResponse], error) {
	return answer(ctx, o.Server, r, o.control.EndCompromise)
}

func (o *operators) CollectCompromise(ctx context.Context, r *connect.Request[api.CollectCompromiseRequest], stream *connect.ServerStream[api.CollectCompromiseResponse]) error {
	err := o.control.CollectCompromise(ctx, callerOf(ctx), r.Msg, stream.Send)
	if err != nil {
		return connectError(o.log, r.Spec().Procedure, err)
	}
	return nil
}

func (o *operators) EndRevocation(ctx context.Context, r *connect.Request[api.EndRevocationRequest]) (*connect.Response[api.EndRevocationResponse], error) {
	return answer(ctx, o.Server, r, o.control.EndRevocation)
}

func (o *operators) PrepareRootList(ctx context.Context, r *connect.Request[api.PrepareRootListRequest]) (*connect.Response[api.PrepareRootListResponse], error) {
	return answer(ctx, o.Server, r, o.control.PrepareRootList)
}

func (o *operators) PutRootList(ctx context.Context, r *connect.Request[api.PutRootListRequest]) (*connect.Response[api.PutRootListResponse], error) {
	return answer(ctx, o.Server, r, o.control.PutRootList)
}

func (o *operators) RetireAgent(ctx context.Context, r *connect.Request[api.RetireAgentRequest]) (*connect.Response[api.RetireAgentResponse], error) {
	return answer(ctx, o.Server, r, o.control.RetireAgent)
}

func (o *operators) ListPlacements(ctx context.Context, r *connect.Request[api.ListPlacementsRequest]) (*connect.Response[api.ListPlacementsResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListPlacements)
}

func (o *operators) DescribePlacement(ctx context.Context, r *connect.Request[api.DescribePlacementRequest]) (*connect.Response[api.DescribePlacementResponse], error) {
	return answer(ctx, o.Server, r, o.control.DescribePlacement)
}

func (o *operators) ListCertificates(ctx context.Context, r *connect.Request[api.ListCertificatesRequest]) (*connect.Response[api.ListCertificatesResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListCertificates)
}

func (o *operators) ListAuthorities(ctx context.Context, r *connect.Request[api.ListAuthoritiesRequest]) (*connect.Response[api.ListAuthoritiesResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListAuthorities)
}

func (o *operators) IssueOperator(ctx context.Context, r *connect.Request[api.IssueOperatorRequest]) (*connect.Response[api.IssueOperatorResponse], error) {
	return answer(ctx, o.Server, r, o.control.IssueOperator)
}

func (o *operators) Rotate(ctx context.Context, r *connect.Request[api.RotateRequest]) (*connect.Response[api.RotateResponse], error) {
	return answer(ctx, o.Server, r, o.control.Rotate)
}

func (o *operators) ListSlots(ctx context.Context, r *connect.Request[api.ListSlotsRequest]) (*connect.Response[api.ListSlotsResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListSlots)
}

func (o *operators) ReleaseSlot(ctx context.Context, r *connect.Request[api.ReleaseSlotRequest]) (*connect.Response[api.ReleaseSlotResponse], error) {
	return answer(ctx, o.Server, r, o.control.ReleaseSlot)
}

func (o *operators) Resume(ctx context.Context, r *connect.Request[api.ResumeRequest]) (*connect.Response[api.ResumeResponse], error) {
	return answer(ctx, o.Server, r, o.control.Resume)
}

func (o *operators) Graph(ctx context.Context, r *connect.Request[api.GraphRequest]) (*connect.Response[api.GraphResponse], error) {
	return answer(ctx, o.Server, r, o.control.Graph)
}

func (o *operators) Impact(ctx context.Context, r *connect.Request[api.ImpactRequest]) (*connect.Response[api.ImpactResponse], error) {
	return answer(ctx, o.Server, r, o.control.Impact)
}

func (o *operators) StartRollout(ctx context.Context, r *connect.Request[api.StartRolloutRequest]) (*connect.Response[api.StartRolloutResponse], error) {
	return answer(ctx, o.Server, r, o.control.StartRollout)
}

func (o *operators) ListRollouts(ctx context.Context, r *connect.Request[api.ListRolloutsRequest]) (*connect.Response[api.ListRolloutsResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListRollouts)
}

func (o *operators) DescribeRollout(ctx context.Context, r *connect.Request[api.DescribeRolloutRequest]) (*connect.Response[api.DescribeRolloutResponse], error) {
	return answer(ctx, o.Server, r, o.control.DescribeRollout)
}

func (o *operators) DecideRollout(ctx context.Context, r *connect.Request[api.DecideRolloutRequest]) (*connect.Response[api.DecideRolloutResponse], error) {
	return answer(ctx, o.Server, r, o.control.DecideRollout)
}

func (o *operators) AnswerRolloutGate(ctx context.Context, r *connect.Request[api.AnswerRolloutGateRequest]) (*connect.Response[api.AnswerRolloutGateResponse], error) {
	return answer(ctx, o.Server, r, o.control.AnswerRolloutGate)
}

func (o *operators) ListNotices(ctx context.Context, r *connect.Request[api.ListNoticesRequest]) (*connect.Response[api.ListNoticesResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListNotices)
}

func (o *operators) ListAuditWitnesses(ctx context.Context, r *connect.Request[api.ListAuditWitnessesRequest]) (*connect.Response[api.ListAuditWitnessesResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListAuditWitnesses)
}

func (o *operators) ListAuditSinks(ctx context.Context, r *connect.Request[api.ListAuditSinksRequest]) (*connect.Response[api.ListAuditSinksResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListAuditSinks)
}

func (o *operators) RetryNotices(ctx context.Context, r *connect.Request[api.RetryNoticesRequest]) (*connect.Response[api.RetryNoticesResponse], error) {
	return answer(ctx, o.Server, r, o.control.RetryNotices)
}

func (o *operators) Restore(ctx context.Context, r *connect.Request[api.RestoreRequest]) (*connect.Response[api.RestoreResponse], error) {
	return answer(ctx, o.Server, r, o.control.Restore)
}

func (o *operators) OpenEmergency(ctx context.Context, r *connect.Request[api.OpenEmergencyRequest]) (*connect.Response[api.OpenEmergencyResponse], error) {
	return answer(ctx, o.Server, r, o.control.OpenEmergency)
}

func (o *operators) CloseEmergency(ctx context.Context, r *connect.Request[api.CloseEmergencyRequest]) (*connect.Response[api.CloseEmergencyResponse], error) {
	return answer(ctx, o.Server, r, o.control.CloseEmergency)
}

func (o *operators) ListEmergencies(ctx context.Context, r *connect.Request[api.ListEmergenciesRequest]) (*connect.Response[api.ListEmergenciesResponse], error) {
	return answer(ctx, o.Server, r, o.control.ListEmergencies)
}

func (o *operators) CreateEmergency(ctx context.Context, r *connect.Request[api.CreateEmergencyRequest]) (*connect.Response[api.CreateEmergencyResponse], error) {
	return answer(ctx, o.Server, r, o.control.CreateEmergency)
}

func (o *operators) UseEmergency(ctx context.Context, r *connect.Request[api.UseEmergencyRequest]) (*connect.Response[api.UseEmergencyResponse], error) {
	return answer(ctx, o.Server, r, o.control.UseEmergency)
}

func (o *operators) WhatIf(ctx context.Context, r *connect.Request[api.WhatIfRequest]) (*connect.Response[api.WhatIfResponse], error) {
	return answer(ctx, o.Server, r, o.control.WhatIf)
}
