package server

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/admission"
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// issue carries out a slice of requests, the most urgent ones of all callers
// first when there is too much to do. A request that has to come back is
// answered with when, beside the certificates of the others.
func (a *agents) issue(ctx context.Context, caller control.Caller, r *api.IssueRequest) (*api.IssueResponse, error) {
	response := &api.IssueResponse{Results: make([]*api.IssueResult, len(r.Requests))}
	asks := func() ([]admission.Ask, error) { return a.control.Asks(ctx, caller, r.Requests) }
	refused, err := a.gate.Run(ctx, caller.ID, len(r.Requests), asks, func(indexes []int) error {
		part := &api.IssueRequest{Requests: make([]*api.PlacementRequest, len(indexes))}
		for i, index := range indexes {
			part.Requests[i] = r.Requests[index]
		}
		issued, err := a.control.Issue(ctx, caller, part)
		if err != nil {
			return err
		}
		for i, index := range indexes {
			response.Results[index] = issued.Results[i]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for index, refusal := range refused {
		response.Results[index] = &api.IssueResult{
			ErrorCode: string(fault.Unavailable), Error: fault.Public(comeBack(refusal)), RetryAfter: durationpb.New(refusal.After),
		}
	}
	return response, nil
}

// enterCall begins a call. One for certificates counts for what it asks.
func (s *Server) enterCall(caller control.Caller, request any) (leave func(), err error) {
	if r, ok := request.(*api.IssueRequest); ok {
		return s.enterAs(s.issues, caller, len(r.Requests))
	}
	return s.enter(caller)
}
