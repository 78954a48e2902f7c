// Package fleetload is agents that exist only to load a control plane: each has
// an identity, a connection and a stream of its own, over real TLS, and no host.
package fleetload

import (
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/retry"
	"github.com/rotunda-pki/rotunda/pki"
)

// Plane is where the agents go.
type Plane struct {
	Address    string // host:port of the agents' listener
	ServerName string // that its certificate must have
	Anchors    pki.Bundle
	Domain     string // the trust domain
}

// Enrol makes an agent out of a token.
func (p Plane) Enrol(ctx context.Context, token string) (*Agent, error) {
	fields := strings.SplitN(token, ".", 6)
	if len(fields) != 6 {
		return nil, fault.New(fault.Invalid, "this is no enrolment token")
	}
	key, csr, err := newCSR()
	if err != nil {
		return nil, err
	}
	stranger, err := p.dial(nil)
	if err != nil {
		return nil, err
	}
	defer stranger.Close() //nolint:errcheck // its one call is over
	request := &api.EnrolRequest{TokenId: fields[1], TokenSecret: fields[2], TrustDomain: p.Domain, Csr: csr}
	for {
		enrolled, err := api.NewAgentServiceClient(stranger).Enrol(ctx, request)
		if err == nil {
			return &Agent{ID: enrolled.AgentId, plane: p, own: &tls.Certificate{Certificate: enrolled.Chain, PrivateKey: key}}, nil
		}
		after, told := retry.Delay(err)
		if !told {
			return nil, fmt.Errorf("enrol an agent: %w", err)
		}
		if err := pause(ctx, after); err != nil {
			return nil, err
		}
	}
}

// dial prepares a connection like an agent's.
func (p Plane) dial(own *tls.Certificate) (*grpc.ClientConn, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: p.Anchors.Pool(), ServerName: p.ServerName}
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	return grpc.NewClient("passthrough:///"+p.Address, append(api.Link(), grpc.WithTransportCredentials(credentials.NewTLS(config)))...)
}

func newCSR() (crypto.PrivateKey, []byte, error) {
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		return nil, nil, err
	}
	csr, err := pki.NewCSR(key)
	return key, csr, err
}

// CSRs makes requests beforehand, so that their cost is in no figure.
func CSRs(ctx context.Context, count int) ([][]byte, error) {
	csrs := make([][]byte, count)
	err := Each(ctx, count, 4, func(_ context.Context, i int) (err error) {
		_, csrs[i], err = newCSR()
		return err
	})
	return csrs, err
}

// Each does count pieces of work, some at once. The first that fails ends it.
func Each(ctx context.Context, count, atOnce int, work func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	turns := make(chan int)
	var group sync.WaitGroup
	for range min(atOnce, count) {
		group.Go(func() {
			for i := range turns {
				if err := work(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range count {
		select {
		case turns <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(turns)
	group.Wait()
	return context.Cause(ctx)
}
