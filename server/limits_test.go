package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/server"
)

// limited is a plane whose server has these limits.
func limited(t *testing.T, l server.Limits) *fleettest.Plane {
	t.Helper()
	p := fleettest.NewPlane(t)
	p.Stop()
	p.Config.Limits = l
	p.Start()
	return p
}

func retryOf(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.RetryDelay.AsDuration()
		}
	}
	return 0
}

// A caller that makes too many calls is told when to come back, and is let in
// then; others are not held up by it, nor is the admin socket.
func TestCallsOfOneCallerAreLimited(t *testing.T) {
	p := limited(t, server.Limits{CallsPerSecond: 5})
	mad, other := agentClient(t, p, newAgent(t, p, nil).cert), agentClient(t, p, newAgent(t, p, nil).cert)
	call := func(client api.AgentServiceClient) error {
		_, err := client.FetchBlobs(t.Context(), &api.FetchBlobsRequest{})
		return err
	}
	var refused error
	for range 100 {
		if refused = call(mad); refused != nil {
			break
		}
	}
	wantGRPC(t, refused, codes.Unavailable, "a caller may have 5 calls a second")
	after := retryOf(refused)
	if after <= 0 || after > time.Second {
		t.Fatalf("it is to come back after %s", after)
	}
	must(t, call(other))
	time.Sleep(after)
	must(t, call(mad))

	operator := operatorClient(t, p, newOperator(t, p).cert)
	var err error
	for range 100 {
		if _, err = operator.Info(t.Context(), connect.NewRequest(&api.InfoRequest{})); err != nil {
			break
		}
	}
	wantConnect(t, err, connect.CodeUnavailable, "a caller may have 5 calls a second")
	var failed *connect.Error
	if !errors.As(err, &failed) || failed.Meta().Get("Retry-After") != "1" {
		t.Errorf("an operator is told %v", failed.Meta())
	}
	socket := socketHTTP(t, p.Config.AdminSocket)
	for range 100 {
		response, err := socket.Post("http://localhost/rotunda.v1.OperatorService/Info", "application/json", strings.NewReader("{}"))
		must(t, err)
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("the admin socket answers %s", response.Status)
		}
	}
	if text := string(fetch(t, "http://"+p.Config.Listen.Metrics+"/metrics")); !strings.Contains(text, `rotunda_refused_for_load_total{what="calls"} 2`) {
		t.Error("the metrics do not count two refusals")
	}
}

// Certificates are counted for themselves, by what a call asks for.
func TestCertificatesOfOneAgentAreLimited(t *testing.T) {
	p := limited(t, server.Limits{IssuePerSecond: 1})
	agent := newAgent(t, p, nil)
	client := agentClient(t, p, agent.cert)
	ask := func(n int) error {
		_, err := client.Issue(t.Context(), &api.IssueRequest{Requests: make([]*api.PlacementRequest, n)})
		return err
	}
	must(t, ask(250)) // each refused by itself: that counts too
	must(t, ask(250))
	err := ask(100)
	wantGRPC(t, err, codes.Unavailable, "a caller may have 1 certificates a second")
	if after := retryOf(err); after < 90*time.Second || after > 100*time.Second {
		t.Errorf("it is to come back after %s", after)
	}
}

// One connection too many is closed, and its place is there again when another
// ends.
func TestConnectionsAreLimited(t *testing.T) {
	p := limited(t, server.Limits{Connections: 2})
	agent := newAgent(t, p, nil)
	call := func(conn *grpc.ClientConn) error {
		_, err := api.NewAgentServiceClient(conn).FetchBlobs(t.Context(), &api.FetchBlobsRequest{})
		return err
	}
	// The enrolment's connection is the first.
	second, third := agentConn(t, p, agent.cert), agentConn(t, p, agent.cert)
	must(t, call(second))
	wantGRPC(t, call(third), codes.Unavailable, "")
	must(t, second.Close())
	deadline := time.Now().Add(fleettest.Patience)
	for call(third) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the place of a connection that was closed is not given to another")
		}
		third.ResetConnectBackoff()
	}
}

// A server that can carry out one request at a time has twenty agents ask for
// everything at once. Each comes back when it was told to; all are served, none
// twice.
func TestBusyServer(t *testing.T) {
	const agents, hosts = 20, 20
	p := limited(t, server.Limits{IssueAtOnce: 1, IssueWithin: fleet.Duration(20 * time.Millisecond)})
	declareMany(t, p, hosts)
	var fleet gosync.WaitGroup
	var mu gosync.Mutex
	told, begin := 0, make(chan struct{})
	for range agents {
		client := agentClient(t, p, newAgent(t, p, map[string]string{"role": "files"}).cert)
		_, desired := sync(t, t.Context(), client, 1)
		request := &api.IssueRequest{}
		for _, placement := range desired.Placements {
			_, csr := newKey(t)
			request.Requests = append(request.Requests, &api.PlacementRequest{PlacementId: placement.PlacementId, Generation: 1, Csr: csr})
		}
		if len(request.Requests) != hosts {
			t.Fatalf("%d placements", len(request.Requests))
		}
		fleet.Go(func() {
			<-begin
			n := obey(t, client, request)
			mu.Lock()
			defer mu.Unlock()
			told += n
		})
	}
	close(begin)
	fleet.Wait()
	list, err := p.ListCertificates(t.Context(), fleettest.Operator, &api.ListCertificatesRequest{})
	must(t, err)
	leaves := 0
	for _, one := range list.Certificates {
		if one.Kind == "leaf" {
			leaves++
		}
	}
	if leaves != agents*hosts {
		t.Errorf("%d certificates were issued, want %d", leaves, agents*hosts)
	}
	t.Logf("told to come back %d times", told)
	if told == 0 {
		t.Error("nobody was told to come back: the server was not busy")
	}
}

// obey asks until all is issued, and leaves the server alone for as long as it
// says.
func obey(t *testing.T, client api.AgentServiceClient, request *api.IssueRequest) (told int) {
	for len(request.Requests) > 0 {
		response, err := client.Issue(t.Context(), request)
		if err != nil {
			t.Error(err)
			return told
		}
		again, longest := &api.IssueRequest{}, time.Duration(0)
		for i, result := range response.Results {
			switch {
			case result.ErrorCode == "":
			case result.ErrorCode == "unavailable" && result.RetryAfter.AsDuration() > 0 && strings.Contains(result.Error, "too much to do"):
				told++
				again.Requests = append(again.Requests, request.Requests[i])
				longest = max(longest, result.RetryAfter.AsDuration())
			default:
				t.Errorf("%s: %s", result.ErrorCode, result.Error)
				return told
			}
		}
		time.Sleep(longest)
		request = again
	}
	return told
}

// declareMany declares n placements on each agent.
func declareMany(t *testing.T, p *fleettest.Plane, n int) {
	t.Helper()
	before, intent, _ := strings.Cut(documents, "---\napiVersion: rotunda/v1\nkind: Intent")
	all := before
	for i := range n {
		name := fmt.Sprintf("files-%d", i)
		one := strings.NewReplacer("name: files}", "name: "+name+"}", "{{ labels.host }}.fleet", name+".fleet", "TREE/{{ labels.host }}", t.TempDir()).Replace(intent)
		all += "---\napiVersion: rotunda/v1\nkind: Intent" + one + "\n"
	}
	p.Apply(strings.TrimSuffix(all, "---\n"))
}

// However many agents do not read, the server keeps a bounded amount for each,
// and what they get at last is the newest.
func TestSlowReaders(t *testing.T) {
	const slow, changes, servers = 80, 120, 400
	p := fleettest.NewPlane(t)
	var streams []grpc.BidiStreamingClient[api.AgentReport, api.DesiredState]
	for range slow {
		stream, _ := sync(t, t.Context(), agentClient(t, p, newAgent(t, p, nil).cert), 1)
		streams = append(streams, stream)
	}
	quick, _ := sync(t, t.Context(), agentClient(t, p, newAgent(t, p, nil).cert), 1)
	before, half := heap(), int64(0)
	for change := range changes {
		p.Apply(regionOf(servers, change))
		for { // one that reads has each, and soon
			state, err := quick.Recv()
			must(t, err)
			if len(state.Servers) == servers && strings.HasPrefix(state.Servers[0].Address, fmt.Sprintf("s%d-", change)) {
				break
			}
		}
		if change == changes/2 {
			half = heap()
		}
	}
	after := heap()
	each, growth := (after-before)/slow, (after-half)/slow
	t.Logf("%d KiB for each agent that does not read, on both sides together, of it %d since half time; %d KiB were pushed to each",
		each>>10, growth>>10, changes*servers*40>>10)
	if each > 400<<10 || growth > 32<<10 {
		t.Errorf("%d KiB for each agent that does not read, and %d since half time", each>>10, growth>>10)
	}
	for _, stream := range streams[:10] {
		messages := 0
		for newest := false; !newest; messages++ {
			state, err := stream.Recv()
			must(t, err)
			newest = len(state.Servers) > 0 && strings.HasPrefix(state.Servers[0].Address, fmt.Sprintf("s%d-", changes-1))
		}
		if messages > changes/2 { // what the connection holds, on both sides
			t.Errorf("%d messages until the newest, of %d changes", messages, changes)
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func regionOf(servers, change int) string {
	text := "apiVersion: rotunda/v1\nkind: Region\nmetadata: {name: eu}\nspec:\n  servers:\n"
	for i := range servers {
		text += fmt.Sprintf("    - s%d-%d.a-rather-long-name.example.com:7443\n", change, i)
	}
	return text
}

// An agent that reads nothing for too long loses its stream, so that its
// absence shows.
func TestUnreadStreamEnds(t *testing.T) {
	p := limited(t, server.Limits{ReadWithin: fleet.Duration(300 * time.Millisecond)})
	agent := newAgent(t, p, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, _ := sync(t, ctx, agentClient(t, p, agent.cert), 1)
	connected := func() bool {
		agents, err := p.ListAgents(t.Context(), fleettest.Operator, &api.ListAgentsRequest{})
		must(t, err)
		return agents.Agents[0].Connected
	}
	for change := 0; connected(); change++ {
		if change > 500 {
			t.Fatal("it stays connected and reads nothing")
		}
		p.Apply(regionOf(400, change))
	}
	wantGRPC(t, endOf(stream), codes.Unavailable, "does not read")
}

func TestLimitsOfTheConfig(t *testing.T) {
	for name, l := range map[string]server.Limits{
		"limits.connections": {Connections: -1}, "limits.issueAtOnce": {IssueAtOnce: -1}, "limits.callsPerSecond": {CallsPerSecond: -1}, "limits.readWithin": {ReadWithin: -1},
		"limits.issueWithin": {IssueWithin: fleet.Duration(time.Minute)},
	} {
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}
