package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
)

const documents = `apiVersion: rotunda/v1
kind: Service
metadata: {name: bench}
spec: {owner: {team: bench, contact: bench@bench.example, runbook: https://bench.example/runbook}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: bench}
spec: {lifetime: 24h, usages: [serverAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: bench}
spec:
  rules:
    - {name: own-names, effect: allow, when: 'service == "bench" && names.dnsNames.all(n, n.endsWith(".bench.example"))'}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: bench}
spec:
  service: bench
  selector: {host: bench}
  profile: bench
  identity: {dnsNames: ["{{ labels.host }}.bench.example"]}
  files: {directory: DIRECTORY}
`

// client is an agent as far as issuance goes: it enrols and asks.
type client struct {
	service   api.AgentServiceClient
	placement string
	next      atomic.Uint64 // generation
}

// issuance measures the server's CPU time for one certificate, RPC and all, at
// several depths, beside what its primitives alone cost here and now.
func (b *bench) issuance(ctx context.Context, count int) ([]Result, error) {
	server, err := b.server(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	path := filepath.Join(b.dir, "bench.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(documents, "DIRECTORY", filepath.Join(b.delivery(), "bench"))), 0o600); err != nil {
		return nil, err
	}
	if err := b.rotunda(ctx, "apply", "--state", b.state(), "-f", path); err != nil {
		return nil, err
	}
	c, err := b.enrol(ctx)
	if err != nil {
		return nil, err
	}
	csrs, err := makeCSRs(count)
	if err != nil {
		return nil, err
	}
	floor, err := primitives(csrs[0])
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, depth := range []int{1, 16, 64} {
		if err := c.issueAll(ctx, csrs[:min(count, warmUp)], depth); err != nil {
			return nil, err
		}
		var each []float64
		for range rounds {
			spent, err := server.spent(func() error { return c.issueAll(ctx, csrs, depth) })
			if err != nil {
				return nil, err
			}
			each = append(each, float64(spent.Microseconds())/float64(count))
		}
		results = append(results, Result{
			Name:  fmt.Sprintf("issuance: server CPU, %d in flight", depth),
			Value: median(each), Unit: "µs", Floor: floor, Target: "< 300",
		})
	}
	return results, nil
}

// A figure of issuance is the median of some rounds, after certificates that
// do not count.
const (
	rounds = 5
	warmUp = 200
)

func (c *client) issueAll(ctx context.Context, csrs [][]byte, depth int) error {
	var group sync.WaitGroup
	work := make(chan []byte)
	failures := make(chan error, depth)
	for range depth {
		group.Go(func() {
			for csr := range work {
				if err := c.issue(ctx, csr); err != nil {
					select {
					case failures <- err:
					default:
					}
				}
			}
		})
	}
	for _, csr := range csrs {
		work <- csr
	}
	close(work)
	group.Wait()
	select {
	case err := <-failures:
		return err
	default:
		return nil
	}
}

func (c *client) issue(ctx context.Context, csr []byte) error {
	response, err := c.service.Issue(ctx, &api.IssueRequest{Requests: []*api.PlacementRequest{
		{PlacementId: c.placement, Generation: c.next.Add(1), Csr: csr},
	}})
	if err != nil {
		return err
	}
	if result := response.Results[0]; result.ErrorCode != "" {
		return fmt.Errorf("issue: %s: %s", result.ErrorCode, result.Error)
	}
	return nil
}

// enrol makes the bench an agent and learns its placement.
func (b *bench) enrol(ctx context.Context) (*client, error) {
	created, err := b.token(ctx, "bench")
	if err != nil {
		return nil, fmt.Errorf("create a token: %w", err)
	}
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(created), &answer); err != nil {
		return nil, err
	}
	fields := strings.SplitN(answer.Token, ".", 6)
	bundle, err := b.root()
	if err != nil {
		return nil, err
	}
	own, err := b.identity(ctx, bundle, fields[1], fields[2])
	if err != nil {
		return nil, err
	}
	conn, err := b.dial(bundle, own)
	if err != nil {
		return nil, err
	}
	c := &client{service: api.NewAgentServiceClient(conn)}
	stream, err := c.service.Sync(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&api.AgentReport{Hello: &api.Hello{Boot: 1}}); err != nil {
		return nil, err
	}
	desired, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if len(desired.Placements) != 1 {
		return nil, fmt.Errorf("%d placements, expected 1", len(desired.Placements))
	}
	c.placement = desired.Placements[0].PlacementId
	return c, stream.CloseSend()
}

// root is the bundle that an agent begins with.
func (b *bench) root() (pki.Bundle, error) {
	root, err := os.ReadFile(filepath.Join(b.state(), "root", "cert.pem"))
	if err != nil {
		return pki.Bundle{}, err
	}
	return pki.ParseBundlePEM(root)
}

// identity enrols an agent.
func (b *bench) identity(ctx context.Context, bundle pki.Bundle, tokenID, secret string) (*tls.Certificate, error) {
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return nil, err
	}
	stranger, err := b.dial(bundle, nil)
	if err != nil {
		return nil, err
	}
	defer stranger.Close()
	enrolled, err := api.NewAgentServiceClient(stranger).Enrol(ctx, &api.EnrolRequest{
		TokenId: tokenID, TokenSecret: secret, TrustDomain: "bench.example", Csr: csr,
	})
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: enrolled.Chain, PrivateKey: key.(crypto.PrivateKey)}, nil
}

func (b *bench) dial(bundle pki.Bundle, own *tls.Certificate) (*grpc.ClientConn, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: bundle.Pool(), ServerName: "localhost"}
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	return grpc.NewClient(b.agents, grpc.WithTransportCredentials(credentials.NewTLS(config)))
}

func makeCSRs(count int) ([][]byte, error) {
	csrs := make([][]byte, count)
	for i := range csrs {
		key, err := pki.ECDSAP256.Generate()
		if err != nil {
			return nil, err
		}
		if csrs[i], err = pki.NewCSR(key); err != nil {
			return nil, err
		}
	}
	return csrs, nil
}

// primitives is the CPU time, in µs, of what no issuance can do without: parse
// a CSR, check its signature, and sign once.
func primitives(csr []byte) (float64, error) {
	const times = 2000
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	before := ownCPU()
	for range times {
		request, err := x509.ParseCertificateRequest(csr)
		if err != nil {
			return 0, err
		}
		if err := request.CheckSignature(); err != nil {
			return 0, err
		}
		digest := sha256.Sum256(csr)
		if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			return 0, err
		}
	}
	return float64((ownCPU() - before).Microseconds()) / times, nil
}

func ownCPU() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
