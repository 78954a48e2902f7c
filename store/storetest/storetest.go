// Package storetest is the suite that every store must pass, whatever it
// stands on. It knows a store by its place and by what store.DB and store.Tx
// promise.
package storetest

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// Run runs the suite. Each test gets the place of a store that is to be made.
func Run(t *testing.T, place func(*testing.T) store.Options) {
	for name, test := range map[string]func(*testing.T, *bench){
		"Transactions/Neighbours":    testNeighbours,
		"Transactions/Durable":       testDurable,
		"Transactions/Panic":         testPanic,
		"Transactions/Goexit":        testGoexit,
		"Transactions/Overlooked":    testOverlookedError,
		"Transactions/RunTwice":      testRunTwice,
		"Transactions/AfterTheEnd":   testAfterTheEnd,
		"Transactions/WriteInRead":   testWriteInRead,
		"Transactions/Snapshot":      testSnapshot,
		"Transactions/Withdrawn":     testWithdrawn,
		"Transactions/Closed":        testClosed,
		"Transactions/Changed":       testChanged,
		"Transactions/Law":           testLaw,
		"Clock/Grows":                testClockGrows,
		"Clock/WentBack":             testClockWentBack,
		"Clock/KnownAfterReopening":  testClockAfterReopening,
		"Hosts":                      testHosts,
		"Moves":                      testMoves,
		"Records/Meta":               testMeta,
		"Records/Authority":          testAuthority,
		"Records/Trust":              testTrust,
		"Records/AgentAnchors":       testAgentAnchors,
		"Records/Secret":             testSecret,
		"Records/Certificate":        testCertificate,
		"Records/Generation":         testGeneration,
		"Records/CertificateQueries": testCertificateQueries,
		"Records/Revocation":         testRevocation,
		"Records/CRL":                testCRL,
		"Records/Revocations":        testRevocations,
		"Records/Staple":             testStaple,
		"Records/Bundle":             testBundle,
		"Records/Document":           testDocument,
		"Records/Agent":              testAgent,
		"Records/Boot":               testBoot,
		"Records/Server":             testServer,
		"Records/TermInUse":          testTermInUse,
		"Records/Token":              testToken,
		"Records/TokenRace":          testTokenRace,
		"Records/Target":             testTarget,
		"Records/Placement":          testPlacement,
		"Records/Rotation":           testRotation,
		"Records/Standing":           testStanding,
		"Records/Standings":          testStandings,
		"Records/Unrevoked":          testUnrevoked,
		"Records/Certificates":       testCertificates,
		"Records/Terse":              testTerse,
		"Records/TerseTakenBack":     testTerseTakenBack,
		"Records/TerseDamaged":       testTerseDamaged,
		"Records/Signing":            testSigning,
		"Records/Newest":             testNewest,
		"Records/Slot":               testSlot,
		"Records/SlotLapse":          testSlotLapse,
		"Records/SlotMoves":          testSlotMoves,
		"Records/Clusters":           testClusters,
		"Records/Failed":             testFailed,
		"Records/PacedRotation":      testPacedRotation,
		"Records/Adoption":           testAdoption,
		"Records/Evidence":           testEvidence,
		"Records/Pruning":            testPruning,
		"Records/Decision":           testDecision,
		"Records/Change":             testChange,
		"Records/Lease":              testLease,
		"AuditLog/Sinks":             testAuditSinks,
		"AuditLog/Witnesses":         testWitnesses,
		"Records/Rollout":            testRollout,
		"Records/RolloutDecision":    testRolloutDecision,
		"Records/RolloutTurn":        testRolloutTurn,
		"Audit/Log":                  testAuditLog,
		"Audit/TwoSequencers":        testTwoSequencers,
		"Audit/Long":                 testLongEntries,
		"Audit/Checkpoint":           testCheckpoint,
	} {
		t.Run(name, func(t *testing.T) { test(t, newBench(t, place(t))) })
	}
}

// bench is a fresh store and the clock that it goes by.
type bench struct {
	*store.DB
	t     *testing.T
	ctx   context.Context
	place store.Options

	mu  sync.Mutex
	now time.Time
}

// start is when each test begins.
var start = time.Date(2030, 1, 2, 3, 4, 5, 678901000, time.UTC)

func newBench(t *testing.T, place store.Options) *bench {
	b := &bench{t: t, ctx: t.Context(), place: place, now: start}
	b.reopen(true)
	return b
}

func (b *bench) reopen(create bool) {
	b.t.Helper()
	if b.DB != nil {
		b.check(b.Close())
	}
	o := b.place
	o.Now = b.clock
	if create {
		b.DB = Make(b.t, o)
	} else {
		var err error
		b.DB, err = store.Open(b.ctx, o)
		b.check(err)
	}
	db := b.DB
	b.t.Cleanup(func() { b.check(db.Close()) })
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *bench) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// write commits fn, which must succeed.
func (b *bench) write(fn func(*store.Tx) error) {
	b.t.Helper()
	b.check(b.Write(b.ctx, fn))
}

// read runs fn, which must succeed, on a snapshot.
func (b *bench) read(fn func(*store.Tx) error) {
	b.t.Helper()
	b.check(b.Read(b.ctx, fn))
}

// refuse demands that fn is refused with the code.
func (b *bench) refuse(code fault.Code, fn func(*store.Tx) error) {
	b.t.Helper()
	err := b.Write(b.ctx, fn)
	if err == nil {
		b.t.Fatalf("the write succeeded; %s was expected", code)
	}
	if got := fault.CodeOf(err); got != code {
		b.t.Fatalf("code %s, want %s: %v", got, code, err)
	}
}

// find reads one thing on a snapshot of its own.
func find[T any](b *bench, fn func(*store.Tx) (T, error)) T {
	b.t.Helper()
	var found T
	b.read(func(tx *store.Tx) error {
		var err error
		found, err = fn(tx)
		return err
	})
	return found
}

// absent demands that fn finds nothing.
func absent[T any](b *bench, fn func(*store.Tx) (T, error)) {
	b.t.Helper()
	err := b.Read(b.ctx, func(tx *store.Tx) error {
		_, err := fn(tx)
		return err
	})
	if fault.CodeOf(err) != fault.NotFound {
		b.t.Fatalf("got %v, want %s", err, fault.NotFound)
	}
}

func same[T any](b *bench, got, want T) {
	b.t.Helper()
	if !reflect.DeepEqual(got, want) {
		b.t.Fatalf("got\n\t%+v\nwant\n\t%+v", got, want)
	}
}

// The records that others hang on.

func authority() store.Authority {
	return store.Authority{
		ID: "issuing-1", Name: "issuing", Kind: store.IssuingAuthority, State: fleet.AuthorityActive,
		Origin: store.KeyHere, Region: "eu", Zone: "z", Certificate: []byte("DER of issuing-1"),
	}
}

func agent(id string) store.Agent {
	return store.Agent{
		ID: id, State: fleet.AgentActive, Labels: map[string]string{"role": "db"}, Facts: map[string]string{"os": "linux"},
		Region: "eu", Zone: "z", TokenID: "token-1", EnrolledAt: start,
	}
}

func (b *bench) withPlacements(ids ...string) {
	b.t.Helper()
	b.write(func(tx *store.Tx) error {
		if err := tx.InsertAgent(b.ctx, agent("agent-1")); err != nil {
			return err
		}
		for _, id := range ids {
			p := store.Placement{ID: id, Intent: "orders-db", AgentID: "agent-1", Instance: id, Target: "etcd"}
			if err := tx.InsertPlacement(b.ctx, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// serial makes distinct serials whose last byte is the number.
func serial(n byte) pki.Serial { return pki.Serial{0: 1, 15: n} }

func leaf(n byte) store.Certificate {
	return store.Certificate{
		Serial: serial(n), Kind: store.KindLeaf, AuthorityID: "issuing-1",
		PlacementID: "placement-1", Generation: uint64(n), AgentID: "agent-1", Intent: "orders-db",
		Names: "db.example.org 192.0.2.1", PolicyInput: []byte(`{"service":"orders"}`), Rule: "databases/allow",
		SPKI: pki.SPKIHash{1, n}, Fingerprint: pki.Fingerprint{2, n}, CRLShard: int(serial(n).Shard()),
		NotBefore: start, NotAfter: start.Add(time.Duration(n) * time.Hour), IssuedAt: start, DER: fmt.Appendf(nil, "DER %d", n),
	}
}

func (b *bench) withAuthority() {
	b.t.Helper()
	b.write(func(tx *store.Tx) error { return tx.InsertAuthority(b.ctx, authority()) })
}
