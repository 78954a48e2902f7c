package server_test

import (
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleettest"
)

// The health check on the agents' listener tells an agent whether a stream
// would be served: its own record is part of that.
func TestAgentsHealthCheck(t *testing.T) {
	p := fleettest.NewPlane(t)
	agent := newAgent(t, p, nil)
	balancer, own := agentConn(t, p, nil), agentConn(t, p, agent.cert)
	check := func(conn *grpc.ClientConn) error {
		response, err := health.NewHealthClient(conn).Check(t.Context(), &health.HealthCheckRequest{})
		if err == nil && response.Status != health.HealthCheckResponse_SERVING {
			t.Errorf("it is %s", response.Status)
		}
		return err
	}
	must(t, check(balancer))
	must(t, check(own))
	_, err := p.RetireAgent(t.Context(), fleettest.Operator, &api.RetireAgentRequest{AgentId: agent.id})
	must(t, err)
	wantGRPC(t, check(own), codes.PermissionDenied, "was revoked")
	must(t, p.CloseStore())
	wantGRPC(t, check(balancer), codes.Unavailable, "the store does not answer")
}

// An agent is told its region and where all servers are, and again when the
// documents change.
func TestAgentsAreToldOfServers(t *testing.T) {
	p := fleettest.NewPlane(t)
	token, err := p.CreateToken(t.Context(), fleettest.Operator, &api.CreateTokenRequest{Region: "eu"})
	must(t, err)
	key, csr := newKey(t)
	enrolled, err := agentClient(t, p, nil).Enrol(t.Context(), enrolment(p, token.Token, csr))
	must(t, err)
	stream, desired := sync(t, t.Context(), agentClient(t, p, credential(key, enrolled.Chain)), 1)
	if desired.Region != "eu" || len(desired.Servers) != 0 {
		t.Errorf("at first: region %q, servers %v", desired.Region, desired.Servers)
	}
	p.Apply("apiVersion: rotunda/v1\nkind: Region\nmetadata: {name: us}\nspec: {servers: ['b:2']}\n---\n" +
		"apiVersion: rotunda/v1\nkind: Region\nmetadata: {name: eu}\nspec: {servers: ['a:1', 'a:2']}\n")
	for len(desired.Servers) == 0 {
		desired, err = stream.Recv()
		must(t, err)
	}
	var told []string
	for _, server := range desired.Servers {
		told = append(told, server.Region+" "+server.Address)
	}
	if !slices.Equal(told, []string{"eu a:1", "eu a:2", "us b:2"}) {
		t.Errorf("told of %v", told)
	}
}
