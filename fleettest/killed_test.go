package fleettest

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/server"
	"github.com/rotunda-pki/rotunda/store"
)

// serverOf names, in the environment of a copy of this program, the state that
// it is to run a control plane on.
const serverOf = "ROTUNDA_FLEETTEST_SERVER"

func TestMain(m *testing.M) {
	if state := os.Getenv(sequencerOf); state != "" {
		if err := runSequencer(state); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if state := os.Getenv(retainerOf); state != "" {
		if err := runRetainer(state); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if state := os.Getenv(serverOf); state != "" {
		if err := runServer(state); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runServer is the control plane of a process of its own.
func runServer(state string) error {
	signal.Ignore(syscall.SIGXFSZ) // a limit on the size of files refuses then, and does not kill
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config, err := server.LoadConfig(state)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Locate(config.Store))
	if err != nil {
		return err
	}
	defer db.Close()
	kek, err := keys.OpenKEK(keys.Source{File: config.KEK.File})
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	c, err := control.Open(ctx, control.Options{DB: db, KEK: kek, PublicURL: config.PublicURL, Spooling: config.Spooling(), Now: db.Now, Log: log})
	if err != nil {
		return err
	}
	s, err := server.New(ctx, server.Options{Config: config, Control: c, Now: db.Now, Log: log})
	if err != nil {
		return err
	}
	return s.Run(ctx, func() { fmt.Println("ready") })
}

// startProcess runs the plane's server in a process of its own.
func (p *Plane) startProcess() *exec.Cmd {
	p.t.Helper()
	content, err := yaml.Marshal(p.Config)
	p.must(err)
	p.must(os.WriteFile(filepath.Join(p.Dir, "rotunda.yaml"), content, 0o600))
	self, err := os.Executable()
	p.must(err)
	process := exec.Command(self)
	process.Env = append(os.Environ(), serverOf+"="+p.Dir)
	process.Stderr = p.t.Output()
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := process.StdoutPipe()
	p.must(err)
	p.must(process.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		p.t.Fatalf("the server says %q: %v", line, err)
	}
	return process
}

// asking is an agent that asks for many generations at once, over the wire.
type asking struct {
	plane     *Plane
	own       tls.Certificate
	placement string

	mu       sync.Mutex
	next     uint64
	requests map[uint64][]byte // CSR of each generation asked for
	answers  map[uint64][]byte // leaf of each one answered

	refused refusals // what load was told in the place of an answer
}

// A server is killed at any instruction while many certificates are being
// issued: each certificate that left it has its record and its audit entry,
// no generation has two, and asking again gives the same one. Law 5, and law 8
// of issuance.
func TestKilledServerLosesAndDoublesNothing(t *testing.T) {
	p := NewPlane(t)
	p.Apply(strings.ReplaceAll(documents, "TREE", t.TempDir()))
	a := p.newAsking()
	p.Stop()
	for range 5 {
		process := p.startProcess()
		conn := a.dial()
		a.askAgain(conn)
		a.askUntilKilled(conn, process, 20+rand.IntN(150))
		conn.Close()
		a.checkStore()
	}
	process := p.startProcess()
	conn := a.dial()
	a.askAgain(conn)
	conn.Close()
	p.must(process.Process.Signal(syscall.SIGTERM))
	p.must(process.Wait())
	a.checkStore()
	if len(a.answers) != len(a.requests) || len(a.answers) < 100 {
		t.Errorf("%d answers to %d requests", len(a.answers), len(a.requests))
	}
}

func (p *Plane) newAsking() *asking {
	p.t.Helper()
	fields := strings.SplitN(p.Token(map[string]string{"role": "files", "host": "h"}), ".", 6)
	key, csr := p.newKey()
	enrolled, err := p.Enrol(p.t.Context(), control.Caller{Kind: control.Anonymous}, &api.EnrolRequest{
		TokenId: fields[1], TokenSecret: fields[2], TrustDomain: TrustDomain, Csr: csr,
	})
	p.must(err)
	return &asking{
		plane: p, own: tls.Certificate{Certificate: enrolled.Chain, PrivateKey: key}, placement: p.Placements()[0].Id,
		requests: map[uint64][]byte{}, answers: map[uint64][]byte{},
	}
}

func (p *Plane) newKey() (crypto.Signer, []byte) {
	p.t.Helper()
	key, err := pki.ECDSAP256.Generate()
	p.must(err)
	csr, err := pki.NewCSR(key)
	p.must(err)
	return key, csr
}

func (a *asking) dial() *grpc.ClientConn { return a.dialTo(a.plane) }

// dialTo connects to one of the servers that share the store.
func (a *asking) dialTo(server *Plane) *grpc.ClientConn {
	a.plane.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.plane.FirstRoot)
	conn, err := grpc.NewClient(server.Config.Listen.Agents, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{a.own},
	})))
	a.plane.must(err)
	return conn
}

// askUntilKilled asks from many goroutines and kills the server after some
// answers, while others are on their way.
func (a *asking) askUntilKilled(conn *grpc.ClientConn, process *exec.Cmd, after int) {
	a.plane.t.Helper()
	client := api.NewAgentServiceClient(conn)
	var answered atomic.Int64
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for a.ask(client, a.take()) == nil {
				if answered.Add(1) == int64(after) {
					process.Process.Kill() // which can't fail before Wait
				}
			}
		})
	}
	group.Wait()
	if err := process.Wait(); err == nil || process.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		a.plane.t.Fatalf("the server ended by itself: %v", err)
	}
}

// take is the next generation, with a key of its own.
func (a *asking) take() uint64 {
	_, csr := a.plane.newKey()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next++
	a.requests[a.next] = csr
	return a.next
}

// ask asks for one generation and keeps the answer. It returns why there was
// none.
func (a *asking) ask(client api.AgentServiceClient, generation uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	a.mu.Lock()
	csr := a.requests[generation]
	a.mu.Unlock()
	response, err := client.Issue(ctx, &api.IssueRequest{Requests: []*api.PlacementRequest{{PlacementId: a.placement, Generation: generation, Csr: csr}}})
	if err != nil {
		return err
	}
	result := response.Results[0]
	if result.ErrorCode == string(fault.Unavailable) {
		return fault.New(fault.Unavailable, "%s", result.Error)
	}
	if result.ErrorCode != "" {
		a.plane.t.Errorf("generation %d: %s: %s", generation, result.ErrorCode, result.Error)
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if before, known := a.answers[generation]; known && !bytes.Equal(before, result.Chain[0]) {
		a.plane.t.Errorf("generation %d: asked again, another certificate came", generation)
	}
	a.answers[generation] = result.Chain[0]
	return nil
}

// askAgain asks for all that was ever asked for, answered or not.
func (a *asking) askAgain(conn *grpc.ClientConn) {
	a.plane.t.Helper()
	client := api.NewAgentServiceClient(conn)
	var next atomic.Uint64
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			for generation := next.Add(1); generation <= uint64(len(a.requests)); generation = next.Add(1) {
				if err := a.ask(client, generation); err != nil {
					return err
				}
			}
			return nil
		})
	}
	a.plane.must(group.Wait())
}

// checkStore compares what left the server with what it recorded.
func (a *asking) checkStore() {
	p := a.plane
	p.t.Helper()
	db, err := store.Open(p.t.Context(), p.Place(time.Now))
	p.must(err)
	defer db.Close()
	p.must(db.Read(p.t.Context(), func(tx *store.Tx) error {
		records, err := tx.PlacementCertificates(p.t.Context(), a.placement)
		if err != nil {
			return err
		}
		issued, err := issueEntries(p.t.Context(), tx, a.placement)
		if err != nil {
			return err
		}
		recorded := map[uint64]store.Certificate{}
		for _, record := range records {
			if _, twice := recorded[record.Generation]; twice {
				p.t.Errorf("generation %d has two certificates", record.Generation)
			}
			recorded[record.Generation] = record
			if n := issued[record.Serial.String()]; n != 1 {
				p.t.Errorf("generation %d has %d audit entries", record.Generation, n)
			}
		}
		if len(issued) != len(records) {
			p.t.Errorf("%d audit entries of issuance, %d certificates", len(issued), len(records))
		}
		for generation, leaf := range a.answers {
			if !bytes.Equal(recorded[generation].DER, leaf) {
				p.t.Errorf("the certificate of generation %d left the server without its record", generation)
			}
		}
		return nil
	}))
}

// issueEntries counts the audit entries of issuance at a placement by serial, pending ones
// too.
func issueEntries(ctx context.Context, tx *store.Tx, placement string) (map[string]int, error) {
	entries, err := tx.NewestAuditEntries(ctx, 1<<20)
	if err != nil {
		return nil, err
	}
	bySerial := map[string]int{}
	for _, stored := range entries {
		entry, err := audit.Decode(stored.Content)
		if err != nil {
			return nil, err
		}
		if entry.Verb == "issue" && entry.Outcome == audit.Done && entry.Object == "Placement/"+placement {
			bySerial[entry.Detail["serial"].(string)]++
		}
	}
	return bySerial, nil
}
