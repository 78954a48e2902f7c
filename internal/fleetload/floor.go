package fleetload

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"

	"cel.dev/cel-go/cel"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	_ "modernc.org/sqlite" // the engine of the store

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/measure"
)

// Floor is the CPU time, in µs, of what no issuance over this network and into a
// store on this machine can do without: a CSR parsed and its signature checked, one
// CEL rule, one signature, a row of a certificate and a row of the audit log in
// commits of sixteen that are synced to the temporary directory's disk, and one
// RPC on a kept connection without TLS, of which a half is the server's. All cores
// are at work on it, as they are under load: two that share a core are slower.
func Floor(ctx context.Context, csrs [][]byte) (float64, error) {
	working, err := workingFloor(ctx, csrs)
	if err != nil {
		return 0, err
	}
	calling, err := callingFloor(ctx, csrs)
	return working + calling/2, err
}

// floorAtOnce is how many do so at once.
const floorAtOnce = 16

// workingFloor signs for all CSRs while one goroutine stores what was signed.
func workingFloor(ctx context.Context, csrs [][]byte) (each float64, err error) {
	dir, err := os.MkdirTemp("", "rotunda-floor-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk, err := newFloorDisk(ctx, filepath.Join(dir, "floor.db"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	sign, err := floorSigner()
	if err != nil {
		return 0, err
	}
	signed, stored := make(chan struct{}, len(csrs)), make(chan error, 1)
	before := measure.OwnCPU()
	go func() { stored <- disk.store(ctx, signed) }()
	err = Each(ctx, len(csrs), floorAtOnce, func(_ context.Context, i int) error {
		err := sign(csrs[i])
		signed <- struct{}{}
		return err
	})
	close(signed)
	err = errors.Join(err, <-stored)
	return float64((measure.OwnCPU() - before).Microseconds()) / float64(len(csrs)), err
}

// floorSigner decides and signs.
func floorSigner() (func(csr []byte) error, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rule, err := celRule()
	if err != nil {
		return nil, err
	}
	return func(csr []byte) error {
		request, err := x509.ParseCertificateRequest(csr)
		if err != nil {
			return err
		}
		if err := request.CheckSignature(); err != nil {
			return err
		}
		if _, _, err := rule.Eval(map[string]any{"service": "bench", "names": []string{"bench.bench.example"}}); err != nil {
			return err
		}
		digest := sha256.Sum256(csr)
		_, err = key.Sign(rand.Reader, digest[:], crypto.SHA256)
		return err
	}, nil
}

func celRule() (cel.Program, error) {
	env, err := cel.NewEnv(cel.Variable("service", cel.StringType), cel.Variable("names", cel.ListType(cel.StringType)))
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(`service == "bench" && names.all(n, n.endsWith(".bench.example"))`)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	return env.Program(ast)
}

// floorGroup is how many rows of each kind share a commit.
const floorGroup = 16

// floorDisk takes rows as long as Rotunda's, with the two indexes that no such table
// can do without, on the engine and at the durability of the store.
type floorDisk struct {
	*sql.DB
	record, enter *sql.Stmt
}

func newFloorDisk(ctx context.Context, path string) (*floorDisk, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	d := &floorDisk{DB: db}
	for _, text := range []string{
		`CREATE TABLE certificate (serial BLOB PRIMARY KEY, placement TEXT NOT NULL, generation INTEGER NOT NULL, der BLOB NOT NULL, UNIQUE (placement, generation))`,
		`CREATE TABLE audit (id BLOB PRIMARY KEY, content BLOB NOT NULL, leaf BLOB NOT NULL)`,
	} {
		if _, err := db.ExecContext(ctx, text); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	if d.record, err = db.PrepareContext(ctx, `INSERT INTO certificate VALUES ($1, 'placement', $2, $3)`); err == nil {
		d.enter, err = db.PrepareContext(ctx, `INSERT INTO audit VALUES ($1, $2, $3)`)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

// store writes rows for what was signed till there is no more.
func (d *floorDisk) store(ctx context.Context, signed <-chan struct{}) error {
	for i := 0; ; i += floorGroup {
		group := 0
		for ; group < floorGroup; group++ {
			if _, more := <-signed; !more {
				break
			}
		}
		if group == 0 {
			return nil
		}
		if err := d.commit(ctx, i, i+group); err != nil {
			for range signed { // so that nobody waits
			}
			return err
		}
	}
}

func (d *floorDisk) commit(ctx context.Context, from, to int) error {
	tx, err := d.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	der, content := make([]byte, 1100), make([]byte, 550)
	for i := from; i < to; i++ {
		id := binary.BigEndian.AppendUint64(nil, uint64(i)) // ascending, as serials are
		leaf := audit.LeafHash(content)
		_, err := tx.StmtContext(ctx, d.record).ExecContext(ctx, id, i, der)
		if err == nil {
			_, err = tx.StmtContext(ctx, d.enter).ExecContext(ctx, id, content, leaf[:])
		}
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// echo answers as Issue does, and does nothing for it.
type echo struct {
	api.UnimplementedAgentServiceServer
}

func (echo) Issue(_ context.Context, r *api.IssueRequest) (*api.IssueResponse, error) {
	answer := &api.IssueResponse{}
	for _, request := range r.Requests {
		answer.Results = append(answer.Results, &api.IssueResult{Chain: [][]byte{request.Csr, request.Csr}})
	}
	return answer, nil
}

// callingFloor is client and server.
func callingFloor(ctx context.Context, csrs [][]byte) (each float64, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	server := grpc.NewServer()
	api.RegisterAgentServiceServer(server, echo{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		err = errors.Join(err, <-served)
	}()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // all calls are over
	client := api.NewAgentServiceClient(conn)
	call := func(ctx context.Context, i int) error {
		_, err := client.Issue(ctx, &api.IssueRequest{Requests: []*api.PlacementRequest{{PlacementId: "placement", Generation: uint64(i), Csr: csrs[i]}}})
		return err
	}
	if err := call(ctx, 0); err != nil { // connects
		return 0, err
	}
	before := measure.OwnCPU()
	err = Each(ctx, len(csrs), floorAtOnce, call)
	return float64((measure.OwnCPU() - before).Microseconds()) / float64(len(csrs)), err
}
