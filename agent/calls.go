package agent

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// The calls that go beside the stream, over the same connection. Each fails as
// unavailable while no stream is open.

func (s *syncer) issue(ctx context.Context, requests []*api.PlacementRequest) ([]*api.IssueResult, error) {
	response, err := call(ctx, s, api.AgentServiceClient.Issue, &api.IssueRequest{Requests: requests})
	if err != nil {
		return nil, err
	}
	if len(response.Results) != len(requests) {
		return nil, fault.New(fault.Internal, "the server answered %d of %d requests", len(response.Results), len(requests))
	}
	return response.Results, nil
}

func (s *syncer) canaries(ctx context.Context, placement string, csr []byte, revoked bool) ([]*api.Canary, error) {
	response, err := call(ctx, s, api.AgentServiceClient.IssueCanaries, &api.IssueCanariesRequest{PlacementId: placement, Csr: csr, Revoked: revoked})
	return response.GetCanaries(), err
}

func (s *syncer) fetchBlobs(ctx context.Context, digests []string) ([]*api.Blob, error) {
	response, err := call(ctx, s, api.AgentServiceClient.FetchBlobs, &api.FetchBlobsRequest{Digests: digests})
	return response.GetBlobs(), err
}

func (s *syncer) renew(ctx context.Context, csr []byte) (*api.RenewIdentityResponse, error) {
	return call(ctx, s, api.AgentServiceClient.RenewIdentity, &api.RenewIdentityRequest{Csr: csr})
}

func (s *syncer) proveConsistency(ctx context.Context, from, to uint64) ([]audit.Hash, error) {
	response, err := call(ctx, s, api.AgentServiceClient.ProveConsistency, &api.ProveConsistencyRequest{From: from, To: to})
	if err != nil {
		return nil, err
	}
	return hashes(response.Proof)
}

// call makes one call with a deadline and explains its error.
func call[Request, Response, Option any](ctx context.Context, s *syncer, method func(api.AgentServiceClient, context.Context, Request, ...Option) (Response, error), request Request) (Response, error) {
	link, err := s.online()
	if err != nil {
		var none Response
		return none, err
	}
	link.calls.RLock()
	defer link.calls.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := method(link, ctx, request)
	return response, link.explain(err)
}
