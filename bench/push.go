package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/pki"
)

// listeners is how many agents a bundle is pushed to.
const listeners = 1000

var benchDomain = spiffeid.RequireTrustDomainFromString("bench.example")

// listener is a connected agent that only listens.
type listener struct {
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[api.AgentReport, api.DesiredState]
}

// heard is when a listener had a bundle of so many anchors.
type heard struct {
	at      time.Time
	anchors int
	err     error
}

// push measures how long a new anchor of the trust domain's bundle takes from
// the operator's call to the last of a thousand connected agents, TLS and
// store included; the agents are in this process, on the same cores.
func (b *bench) push(ctx context.Context) ([]Result, error) {
	server, err := b.server(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := make(chan heard, listeners)
	all, err := b.listen(ctx, news)
	defer func() {
		for _, one := range all {
			_ = one.conn.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	if _, err := await(ctx, news, 1); err != nil {
		return nil, err
	}
	var medians, tails, spent []float64
	for round := range rounds {
		var took []float64
		cpu, err := server.spent(func() error {
			took, err = b.pushOnce(ctx, news, round)
			return err
		})
		if err != nil {
			return nil, err
		}
		medians, tails = append(medians, took[len(took)/2]), append(tails, took[len(took)*99/100])
		spent = append(spent, float64(cpu.Milliseconds())/listeners)
	}
	return []Result{
		{Name: fmt.Sprintf("a bundle to %d agents: median", listeners), Value: median(medians), Unit: "ms", Target: "-"},
		{Name: fmt.Sprintf("a bundle to %d agents: p99", listeners), Value: median(tails), Unit: "ms", Target: "≤ 250"},
		{Name: fmt.Sprintf("a bundle to %d agents: server CPU for each", listeners), Value: median(spent), Unit: "ms", Target: "-"},
	}, nil
}

// pushOnce makes one more root trusted, and returns how long each agent took to
// hear of it, in ms, sorted.
func (b *bench) pushOnce(ctx context.Context, news <-chan heard, round int) ([]float64, error) {
	root, _, err := ca.CreateRoot(time.Now(), ca.RootOrder{
		TrustDomain: benchDomain, Name: fmt.Sprintf("pushed %d", round), Algorithm: pki.ECDSAP256, Lifetime: 365 * 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	_, err = b.operator().ImportAuthority(ctx, connect.NewRequest(&api.ImportAuthorityRequest{
		Name: fmt.Sprintf("pushed-%d", round), Root: root.Raw, Trusted: true,
	}))
	if err != nil {
		return nil, err
	}
	times, err := await(ctx, news, round+2)
	var took []float64
	for _, at := range times {
		took = append(took, float64(at.Sub(began).Microseconds())/1000)
	}
	slices.Sort(took)
	return took, err
}

// await waits until each listener has heard of so many anchors.
func await(ctx context.Context, news <-chan heard, anchors int) (times []time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for len(times) < listeners {
		select {
		case one := <-news:
			if one.err != nil {
				return times, one.err
			}
			if one.anchors == anchors {
				times = append(times, one.at)
			}
		case <-ctx.Done():
			return times, fmt.Errorf("%d of %d agents heard of %d anchors: %w", len(times), listeners, anchors, ctx.Err())
		}
	}
	return times, nil
}

// listen enrols the agents and opens their streams.
func (b *bench) listen(ctx context.Context, news chan<- heard) ([]*listener, error) {
	operator := b.operator()
	var (
		mu    sync.Mutex
		all   []*listener
		group sync.WaitGroup
		first error
	)
	turns := make(chan struct{})
	for range 16 {
		group.Go(func() {
			for range turns {
				one, err := b.listener(ctx, operator, news)
				mu.Lock()
				if err != nil && first == nil {
					first = err
				}
				if one != nil {
					all = append(all, one)
				}
				mu.Unlock()
			}
		})
	}
	for range listeners {
		turns <- struct{}{}
	}
	close(turns)
	group.Wait()
	return all, first
}

// listener enrols one agent and tells news what it hears.
func (b *bench) listener(ctx context.Context, operator apiconnect.OperatorServiceClient, news chan<- heard) (*listener, error) {
	token, err := operator.CreateToken(ctx, connect.NewRequest(&api.CreateTokenRequest{}))
	if err != nil {
		return nil, err
	}
	bundle, err := b.root()
	if err != nil {
		return nil, err
	}
	fields := strings.SplitN(token.Msg.Token, ".", 6)
	own, err := b.identity(ctx, bundle, fields[1], fields[2])
	if err != nil {
		return nil, err
	}
	conn, err := b.dial(bundle, own)
	if err != nil {
		return nil, err
	}
	one := &listener{conn: conn}
	if one.stream, err = api.NewAgentServiceClient(conn).Sync(ctx); err != nil {
		return one, err
	}
	if err := one.stream.Send(&api.AgentReport{Hello: &api.Hello{Boot: 1}}); err != nil {
		return one, err
	}
	go func() {
		for {
			desired, err := one.stream.Recv()
			if err != nil {
				if ctx.Err() == nil {
					news <- heard{err: err}
				}
				return
			}
			news <- heard{at: time.Now(), anchors: len(desired.Anchors)}
		}
	}()
	return one, nil
}
