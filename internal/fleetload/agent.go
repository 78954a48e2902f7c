package fleetload

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Agent is one agent. Its methods are for one goroutine but Issue.
type Agent struct {
	ID string

	plane     Plane
	own       *tls.Certificate
	boot      uint64
	conn      *grpc.ClientConn
	service   api.AgentServiceClient
	stream    grpc.BidiStreamingClient[api.AgentReport, api.DesiredState]
	saying    sync.Mutex
	listening chan struct{} // closed when the stream's listener has ended
	beating   sync.WaitGroup

	placement  atomic.Pointer[string]
	generation atomic.Uint64
	newest     atomic.Pointer[api.DesiredState]
}

// Told is called with each desired state that an agent is sent, or once with
// why its stream ended against its will.
type Told func(*Agent, *api.DesiredState, error)

// Connect opens the agent's connection and stream, and returns once the server
// has said what it desires. told hears of that, and of all that follows, until
// the agent is disconnected.
func (a *Agent) Connect(ctx context.Context, told Told) error {
	var err error
	if a.conn, err = a.plane.dial(a.own); err != nil {
		return err
	}
	a.service = api.NewAgentServiceClient(a.conn)
	if a.stream, err = a.service.Sync(ctx); err != nil {
		return errors.Join(err, a.conn.Close())
	}
	a.boot++
	hello := &api.AgentReport{Hello: &api.Hello{Boot: a.boot}, AnchorsDigest: a.plane.Anchors.Digest().String()}
	if err := a.stream.Send(hello); err != nil {
		return errors.Join(err, a.conn.Close())
	}
	desired, err := a.stream.Recv()
	if err != nil {
		return errors.Join(fmt.Errorf("open the stream of agent %s: %w", a.ID, err), a.conn.Close())
	}
	a.keep(desired)
	a.listening = make(chan struct{})
	go a.listen(ctx, desired, told) // told may wait for somebody who waits for this one
	a.beating.Go(func() { a.beats(ctx) })
	return nil
}

// listen hears of the first desired state, and of those that follow.
func (a *Agent) listen(ctx context.Context, desired *api.DesiredState, told Told) {
	defer close(a.listening)
	for {
		told(a, desired, nil)
		var err error
		if desired, err = a.stream.Recv(); err != nil {
			if ctx.Err() == nil && !errors.Is(err, io.EOF) { // that is the answer to Hush
				told(a, nil, err)
			}
			return
		}
		a.keep(desired)
	}
}

func (a *Agent) keep(desired *api.DesiredState) {
	if len(desired.Placements) > 0 {
		a.placement.Store(&desired.Placements[0].PlacementId)
	}
	a.newest.Store(desired)
}

// Disconnect ends the connection; whoever listens hears nothing of it if the
// context of Connect has ended.
func (a *Agent) Disconnect() {
	if a.conn == nil {
		return
	}
	_ = a.conn.Close() // of a stream that is given up
	if a.listening != nil {
		<-a.listening
		a.beating.Wait()
	}
	a.conn, a.listening = nil, nil
}

// Hush ends the agent's stream, once the server has taken all that was reported,
// and keeps its connection.
func (a *Agent) Hush() error {
	a.saying.Lock()
	err := a.stream.CloseSend()
	a.saying.Unlock()
	if err != nil {
		return err
	}
	<-a.listening
	return nil
}

// Placement is the agent's own, as the server told; empty: it has none.
func (a *Agent) Placement() string {
	if id := a.placement.Load(); id != nil {
		return *id
	}
	return ""
}

// Issue asks for a certificate for each request, at the next generations, in
// one call.
func (a *Agent) Issue(ctx context.Context, csrs ...[]byte) ([]*api.IssueResult, error) {
	ask := &api.IssueRequest{}
	for _, csr := range csrs {
		ask.Requests = append(ask.Requests, &api.PlacementRequest{PlacementId: a.Placement(), Generation: a.generation.Add(1), Csr: csr})
	}
	response, err := a.service.Issue(ctx, ask)
	if err != nil {
		return nil, err
	}
	for _, result := range response.Results {
		if result.ErrorCode != "" {
			return nil, fault.New(fault.Conflict, "issue: %s: %s", result.ErrorCode, result.Error)
		}
	}
	return response.Results, nil
}

// FetchBlobs fetches what the desired state names by digests.
func (a *Agent) FetchBlobs(ctx context.Context, digests ...string) ([]*api.Blob, error) {
	fetched, err := a.service.FetchBlobs(ctx, &api.FetchBlobsRequest{Digests: digests})
	return fetched.GetBlobs(), err
}

// Generation is the highest that was asked for.
func (a *Agent) Generation() uint64 { return a.generation.Load() }
