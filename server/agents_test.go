package server_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/store"
)

// agentCalls are all calls of the agents' listener but enrolment.
func agentCalls(client api.AgentServiceClient) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"RenewIdentity": func(ctx context.Context) error {
			_, err := client.RenewIdentity(ctx, &api.RenewIdentityRequest{})
			return err
		},
		"Issue": func(ctx context.Context) error {
			_, err := client.Issue(ctx, &api.IssueRequest{})
			return err
		},
		"IssueCanaries": func(ctx context.Context) error {
			_, err := client.IssueCanaries(ctx, &api.IssueCanariesRequest{})
			return err
		},
		"FetchBlobs": func(ctx context.Context) error {
			_, err := client.FetchBlobs(ctx, &api.FetchBlobsRequest{})
			return err
		},
		"ProveConsistency": func(ctx context.Context) error {
			_, err := client.ProveConsistency(ctx, &api.ProveConsistencyRequest{})
			return err
		},
		"Sync": func(ctx context.Context) error {
			stream, err := client.Sync(ctx)
			if err != nil {
				return err
			}
			stream.Send(&api.AgentReport{Hello: &api.Hello{Boot: 1}}) // its failure comes with Recv
			_, err = stream.Recv()
			return err
		},
	}
}

func TestAgentsCallsNeedAnAgentsRecord(t *testing.T) {
	p := fleettest.NewPlane(t)
	retired := newAgent(t, p, nil)
	if _, err := p.RetireAgent(t.Context(), fleettest.Operator, &api.RetireAgentRequest{AgentId: retired.id}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		holder holder
		words  string
	}{
		"no certificate":         {holder{}, "anonymous may not"},
		"an operator's":          {newOperator(t, p), "operator/alice may not"},
		"one without a record":   {unrecorded(t, p), "has no record"},
		"one of a retired agent": {retired, "was revoked: cessationOfOperation"},
	} {
		for call, do := range agentCalls(agentClient(t, p, c.holder.cert)) {
			t.Run(name+"/"+call, func(t *testing.T) {
				wantGRPC(t, do(t.Context()), codes.PermissionDenied, c.words)
			})
		}
	}
	for call, do := range agentCalls(agentClient(t, p, newAgent(t, p, nil).cert)) {
		if call == "RenewIdentity" || call == "IssueCanaries" { // which want a CSR
			wantGRPC(t, do(t.Context()), codes.InvalidArgument, "")
		} else if err := do(t.Context()); err != nil {
			t.Errorf("%s by an agent: %v", call, err)
		}
	}
}

func TestCertificatesOfOtherAuthoritiesEndInTLS(t *testing.T) {
	p, other := fleettest.NewPlane(t), fleettest.NewPlane(t)
	foreign := newAgent(t, other, nil)
	for call, do := range agentCalls(agentClient(t, p, foreign.cert)) {
		wantGRPC(t, do(t.Context()), codes.Unavailable, "") // no handshake, so no call
		_ = call
	}
}

func TestMessagesAreBounded(t *testing.T) {
	p := fleettest.NewPlane(t)
	client := agentClient(t, p, newAgent(t, p, nil).cert)
	_, err := client.Issue(t.Context(), &api.IssueRequest{Requests: []*api.PlacementRequest{{Csr: make([]byte, 9<<20)}}})
	wantGRPC(t, err, codes.ResourceExhausted, "larger than max")
	_, err = client.Issue(t.Context(), &api.IssueRequest{Requests: make([]*api.PlacementRequest, 257)})
	wantGRPC(t, err, codes.InvalidArgument, "at most 256")
	_, err = client.FetchBlobs(t.Context(), &api.FetchBlobsRequest{Digests: make([]string, 65)})
	wantGRPC(t, err, codes.InvalidArgument, "at most 64")
}

func TestStreamBeginsWithHello(t *testing.T) {
	p := fleettest.NewPlane(t)
	stream, err := agentClient(t, p, newAgent(t, p, nil).cert).Sync(t.Context())
	must(t, err)
	must(t, stream.Send(&api.AgentReport{}))
	wantGRPC(t, endOf(stream), codes.InvalidArgument, "hello")
}

// Two streams of one agent: the one with the higher boot counter stays, and a
// copy of its state is refused.
func TestClonesOnTheWire(t *testing.T) {
	p := fleettest.NewPlane(t)
	client := agentClient(t, p, newAgent(t, p, nil).cert)
	first, _ := sync(t, t.Context(), client, 5)
	second, _ := sync(t, t.Context(), client, 6)
	wantGRPC(t, endOf(first), codes.Unavailable, "newer stream")

	for _, boot := range []uint64{5, 6} {
		clone, err := client.Sync(t.Context())
		must(t, err)
		must(t, clone.Send(&api.AgentReport{Hello: &api.Hello{Boot: boot}}))
		wantGRPC(t, endOf(clone), codes.FailedPrecondition, "its state runs twice")
	}
	must(t, second.Send(&api.AgentReport{Alarm: "still here"}))
	awaitAlarm(t, p, "still here")
	awaitAlarm(t, p, "runs twice")
}

// awaitAlarm waits until the only agent's alarm is known.
func awaitAlarm(t *testing.T, p *fleettest.Plane, alarm string) {
	t.Helper()
	p.Await("alarm "+alarm, func([]*api.PlacementStatus) bool {
		agents, err := p.ListAgents(t.Context(), fleettest.Operator, &api.ListAgentsRequest{})
		must(t, err)
		return strings.Contains(agents.Agents[0].Alarm, alarm) && agents.Agents[0].Connected
	})
}

func TestRetirementEndsTheStream(t *testing.T) {
	p := fleettest.NewPlane(t)
	agent := newAgent(t, p, nil)
	client := agentClient(t, p, agent.cert)
	stream, _ := sync(t, t.Context(), client, 1)
	_, err := p.RetireAgent(t.Context(), fleettest.Operator, &api.RetireAgentRequest{AgentId: agent.id})
	must(t, err)
	wantGRPC(t, endOf(stream), codes.PermissionDenied, "is retired")
	_, err = client.Issue(t.Context(), &api.IssueRequest{})
	wantGRPC(t, err, codes.PermissionDenied, "was revoked")
}

// What another server commits, and does not come to tell of, streams see once
// this one looks for moves. They are many, as the log is shown to a few as it grows.
func TestStreamsFollowMoves(t *testing.T) {
	p := fleettest.NewPlane(t)
	first := uint64(0)
	streams := make([]grpc.BidiStreamingClient[api.AgentReport, api.DesiredState], 12)
	for i := range streams {
		var desired *api.DesiredState
		streams[i], desired = sync(t, t.Context(), agentClient(t, p, newAgent(t, p, nil).cert), 1)
		first = desired.Epoch
	}
	p.Behind(func(tx *store.Tx) error { return tx.RaiseEpoch(t.Context()) })
	must(t, p.LookForMoves(t.Context()))
	for _, stream := range streams {
		for epoch := first; epoch == first; {
			desired, err := stream.Recv()
			must(t, err)
			epoch = desired.Epoch
		}
	}
}

// What an agent asks for gets to it by the stream: a certificate by its CDP and
// issuer URLs, and a window when it was issued.
func TestIssueOverTheWire(t *testing.T) {
	p := fleettest.NewPlane(t)
	declare(t, p)
	agent := newAgent(t, p, map[string]string{"role": "files", "host": "h"})
	client := agentClient(t, p, agent.cert)
	stream, desired := sync(t, t.Context(), client, 1)
	_, csr := newKey(t)
	request := &api.IssueRequest{Requests: []*api.PlacementRequest{{PlacementId: desired.Placements[0].PlacementId, Generation: 1, Csr: csr}}}
	first, err := client.Issue(t.Context(), request)
	must(t, err)
	again, err := client.Issue(t.Context(), request)
	must(t, err)
	if len(first.Results[0].Chain) != 2 || !bytes.Equal(first.Results[0].Chain[0], again.Results[0].Chain[0]) {
		t.Errorf("asked twice: %v, then %v", first, again)
	}
	for {
		state, err := stream.Recv()
		must(t, err)
		if state.Placements[0].WindowGeneration == 1 {
			break
		}
	}
}
