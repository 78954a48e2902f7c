package reconcile_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/reconcile"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
	"github.com/rotunda-pki/rotunda/witness"
)

// outside is a real witness, whose answers a test may exchange for others.
type outside struct {
	witness.Peer
	t      *testing.T
	root   *os.Root
	state  *witness.State
	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Int64
}

func (j *journal) outside(name string) *outside {
	j.t.Helper()
	root, err := os.OpenRoot(j.t.TempDir())
	if err != nil {
		j.t.Fatal(err)
	}
	cosigner, err := witness.CreateKey(root, "witness.example/"+name)
	if err != nil {
		j.t.Fatal(err)
	}
	w := &outside{t: j.t, root: root}
	w.open(j.LogKey())
	server := httptest.NewServer(w)
	j.t.Cleanup(func() {
		server.Close()
		w.state.Close()
		root.Close()
	})
	w.Peer = witness.Peer{Name: name, Key: cosigner.VerifierKey(), URL: server.URL}
	return w
}

func (w *outside) open(logKey string) {
	w.t.Helper()
	var err error
	if w.state, err = witness.Open(w.root, []string{logKey}, time.Now, slog.New(slog.DiscardHandler)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *outside) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		w.asked.Add(1)
	}
	if answer := w.answer.Load(); answer != nil {
		(*answer)(out, r)
		return
	}
	w.state.Handler().ServeHTTP(out, r)
}

// says makes the witness answer otherwise; nil: as itself.
func (w *outside) says(answer http.HandlerFunc) {
	if answer == nil {
		w.answer.Store(nil)
		return
	}
	w.answer.Store(&answer)
}

// forget is what losing the directory but not the key does.
func (w *outside) forget(logKey string) {
	w.t.Helper()
	w.state.Close()
	entries, err := os.ReadDir(w.root.Name())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".checkpoint") {
			if err := w.root.Remove(entry.Name()); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.open(logKey)
}

// name makes rotunda.yaml name these witnesses, as a server that starts reads it.
func (j *journal) name(required int, all ...*outside) {
	j.t.Helper()
	j.plane.Config.Witnesses = witness.Config{Required: required}
	for _, w := range all {
		j.plane.Config.Witnesses.Ask = append(j.plane.Config.Witnesses.Ask, w.Peer)
	}
	if err := j.plane.Config.Witnesses.Validate(); err != nil {
		j.t.Fatal(err)
	}
	j.reopen()
}

func (j *journal) reopen() {
	j.t.Helper()
	if err := j.LeaveSequence(j.t.Context()); err != nil {
		j.t.Fatal(err)
	}
	if err := j.db.Close(); err != nil {
		j.t.Fatal(err)
	}
	j.open()
}

// asking runs what asks the witnesses, until the test or stop ends it.
func (j *journal) asking(holder string) (stop func()) {
	j.t.Helper()
	return j.askingFor(holder, time.Second)
}

func (j *journal) askingFor(holder string, within time.Duration) (stop func()) {
	j.t.Helper()
	w, err := reconcile.NewWitnessing(j.Control, holder, slog.New(slog.DiscardHandler))
	if err != nil {
		j.t.Fatal(err)
	}
	w.Within, w.Wait = within, func(int) time.Duration { return 20 * time.Millisecond }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	j.t.Cleanup(stop)
	return stop
}

func (j *journal) witnesses() *api.ListAuditWitnessesResponse {
	j.t.Helper()
	list, err := j.ListAuditWitnesses(j.t.Context(), fleettest.Operator, &api.ListAuditWitnessesRequest{})
	if err != nil {
		j.t.Fatal(err)
	}
	return list
}

func (j *journal) witness(name string) *api.AuditWitness {
	j.t.Helper()
	for _, one := range j.witnesses().Witnesses {
		if one.Name == name {
			return one
		}
	}
	return &api.AuditWitness{}
}

// await waits until something that a commit brings about is so.
func (j *journal) await(what string, so func() bool) {
	j.t.Helper()
	limit := time.After(fleettest.Patience)
	for {
		_, next := j.Changed()
		if so() {
			return
		}
		select {
		case <-next:
		case <-limit:
			j.t.Fatalf("%s: not within %s; %v", what, fleettest.Patience, j.witnesses())
		}
	}
}

// published is what everybody is shown, and who cosigned it.
func (j *journal) published(all ...*outside) (audit.Checkpoint, []string) {
	j.t.Helper()
	signed, err := j.Published(j.t.Context())
	if err != nil {
		j.t.Fatal(err)
	}
	if signed == nil {
		return audit.Checkpoint{}, nil
	}
	var keys []string
	for _, w := range all {
		keys = append(keys, w.Key)
	}
	witnesses, err := audit.NewCosigners(keys...)
	if err != nil {
		j.t.Fatal(err)
	}
	names, err := audit.Cosigners(signed, j.LogVerifier(), witnesses)
	if err != nil {
		j.t.Fatal(err)
	}
	cp, err := audit.OpenCheckpoint(signed, j.Origin(), j.LogVerifier())
	if err != nil {
		j.t.Fatal(err)
	}
	return cp, names
}

func (j *journal) alarms() (entries []audit.Entry) {
	j.t.Helper()
	list, err := j.ListAuditEntries(j.t.Context(), fleettest.Operator, &api.ListAuditEntriesRequest{Newest: true, Limit: 1000})
	if err != nil {
		j.t.Fatal(err)
	}
	for _, one := range list.Entries {
		if entry, err := audit.Decode(one.Content); err == nil && entry.Verb == "audit.witness.alarm" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// Each new checkpoint is cosigned by all and published with their lines; what a
// witness cosigned before a crash that kept nothing of it is asked for again, and
// a witness that knows the log already is gone on from where it is.
func TestWitnessesCosign(t *testing.T) {
	j := newJournal(t)
	w1, w2 := j.outside("w1"), j.outside("w2")
	j.name(2, w1, w2)
	size := j.grow(20)
	request, _, err := j.WitnessRequest(t.Context(), 0, size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w1.state.Add(request); err != nil { // and then the server was killed
		t.Fatal(err)
	}
	if cp, _ := j.published(w1, w2); cp.Size != 0 {
		t.Fatalf("%d entries are published with nobody's cosignature", cp.Size)
	}
	stop := j.asking("here")
	j.await("two cosignatures", func() bool { cp, _ := j.published(); return cp.Size == size })
	if _, names := j.published(w1, w2); len(names) != 2 {
		t.Errorf("published with the cosignatures of %v", names)
	}
	grown := j.grow(30)
	j.await("two more", func() bool { return j.witnesses().Published == grown })
	if list := j.witnesses(); list.UnpublishedSince != nil || list.Witnesses[0].State != "current" || list.Witnesses[0].Tries != 0 {
		t.Errorf("all is cosigned: %v", list)
	}
	stop()
	w1.Name = "renamed"
	j.name(2, w1, w2)
	last := j.grow(3)
	j.asking("there")
	j.await("a witness that knows the log already", func() bool { return j.witnesses().Published == last && j.witness("renamed").Size == last })
	if j.witness("w1").State != "undeclared" || len(j.alarms()) != 0 {
		t.Errorf("%v", j.witnesses())
	}
	checkpoints, err := j.ListCheckpoints(t.Context(), fleettest.Operator, &api.ListCheckpointsRequest{From: grown})
	if err != nil || len(checkpoints.Checkpoints) < 1 || bytes.Count(checkpoints.Checkpoints[0], []byte("— witness.example/")) != 2 {
		t.Errorf("%q, %v", checkpoints.GetCheckpoints(), err)
	}
}

// One that hangs, lies or is broken is named with what it did, is asked again,
// and stops no other.
func TestBadWitnessesStopNobody(t *testing.T) {
	j := newJournal(t)
	good := j.outside("good")
	all := []*outside{good}
	key, err := audit.NewCosigningKey("witness.example/wrong-key")
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"hangs":   func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		"garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello\n")) },
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 12 {
				if _, err := w.Write(bytes.Repeat([]byte("— a b\n"), 1<<10)); err != nil {
					return
				}
			}
		},
		"forbids": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"unknown": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"wrong-key": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			request, _ := audit.ParseAddCheckpoint(body)
			cp, _ := audit.OpenCheckpoint(request.Signed, j.Origin(), j.LogVerifier())
			_, _ = w.Write(key.Cosign(cp, time.Now()))
		},
	} {
		bad := j.outside(name)
		bad.says(answer)
		all = append(all, bad)
	}
	j.name(1, all...)
	size := j.grow(5)
	j.asking("here")
	j.await("the good one's cosignature", func() bool { return j.witnesses().Published == size })
	for _, bad := range all[1:] {
		j.await(bad.Name+" is asked again", func() bool { return j.witness(bad.Name).Tries >= 2 })
		if one := j.witness(bad.Name); one.State != "failing" || one.LastError == "" || one.Size != 0 {
			t.Errorf("%v", one)
		}
	}
	grown := j.grow(5)
	j.await("the good one's next", func() bool { return j.witnesses().Published == grown })
	for _, bad := range all[1:] {
		bad.says(nil)
	}
	j.await("all are well", func() bool {
		for _, one := range j.witnesses().Witnesses {
			if one.State != "current" {
				return false
			}
		}
		return true
	})
}

// While one call hangs, others are asked, again and again, and a server that
// stops does not wait for it.
func TestHangingWitnessHoldsNobody(t *testing.T) {
	j := newJournal(t)
	hangs, good := j.outside("hangs"), j.outside("good")
	called := make(chan struct{}, 1)
	hangs.says(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case called <- struct{}{}:
		default:
		}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	j.name(1, hangs, good)
	size := j.grow(5)
	stop := j.askingFor("here", time.Hour)
	<-called
	j.await("the good one's cosignature", func() bool { return j.witness("good").Size == size })
	if one := j.witness("hangs"); one.Tries != 0 {
		t.Errorf("it does not hang: %v", one)
	}
	stop()
	if one := j.witness("hangs"); one.Tries != 0 {
		t.Errorf("that the server stopped is held against the witness: %v", one)
	}
	grown := j.grow(5)
	j.asking("there") // a lease that was not given back would be in its way
	j.await("the next server's", func() bool { return j.witness("good").Size == grown })
}

// Where too few cosign, publication waits and says so; the log and what it tells
// of go on. More that are required later unpublish nothing that has them.
func TestPublicationWaits(t *testing.T) {
	j := newJournal(t)
	w1, w2 := j.outside("w1"), j.outside("w2")
	j.name(2, w1, w2)
	size := j.grow(4)
	stop := j.asking("here")
	j.await("both", func() bool { return j.witnesses().Published == size })
	w2.says(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	grown := j.grow(6)
	j.await("w1 alone", func() bool { return j.witness("w1").Size == grown && j.witness("w2").FailingSince != nil })
	if cp, names := j.published(w1, w2); cp.Size != size || len(names) != 2 {
		t.Errorf("%d entries are published by %v, want the %d that both cosigned", cp.Size, names, size)
	}
	j.offset = 2 * time.Minute
	status, err := j.ListPlacements(t.Context(), fleettest.Operator, &api.ListPlacementsRequest{})
	if err != nil || !strings.Contains(status.Unpublished, "2 cosignatures") || j.witnesses().UnpublishedSince == nil {
		t.Errorf("status says %q, %v", status.GetUnpublished(), err)
	}
	j.offset = 0
	if newest, err := j.Checkpoint(t.Context()); err != nil || !bytes.Contains(newest, []byte("\n"+decimal(grown)+"\n")) {
		t.Errorf("agents are shown %q, %v", newest, err)
	}
	stop()
	w3 := j.outside("w3")
	j.name(3, w1, w2, w3)
	if cp, _ := j.published(); cp.Size != 0 {
		t.Errorf("%d entries are published with two of three cosignatures", cp.Size)
	}
	w2.says(nil)
	j.asking("here")
	j.await("all three", func() bool { return j.witnesses().Published == grown })
}

// A store that was put back from a copy is found by a witness that shows what the
// log's key signed, be the log shorter than that, another one of that size or beyond; a restore
// sets that aside, and the witness stays as an alarm.
func TestWitnessFindsStoreRolledBack(t *testing.T) {
	for name, more := range map[string]int{"shorter": 0, "as long, with other entries": 10, "grown otherwise": 25} {
		t.Run(name, func(t *testing.T) {
			j := newJournal(t)
			w1 := j.outside("w1")
			j.name(1, w1)
			size := j.grow(10)
			stop := j.asking("here")
			j.await("a cosignature", func() bool { return j.witnesses().Published == size })
			stop()
			if err := j.LeaveSequence(t.Context()); err != nil {
				t.Fatal(err)
			}
			copied := t.TempDir() + "/copy.db"
			if err := store.Backup(t.Context(), store.Locate(j.plane.Config.Store), copied, func(*store.Tx) error { return nil }); err != nil {
				t.Fatal(err)
			}
			seen := j.grow(10)
			stop = j.asking("here")
			j.await("another", func() bool { return j.witnesses().Published == seen })
			stop()
			j.putBack(copied)
			if more > 0 {
				j.grow(more)
			}
			stop = j.asking("here")
			j.await("the store is rolled back", func() bool { return j.rolledBack() != "" })
			stop()
			if words := j.rolledBack(); !strings.Contains(words, "witness w1 has seen "+decimal(seen)+" entries") {
				t.Errorf("%s", words)
			}
			if _, err := j.CreateToken(t.Context(), fleettest.Operator, &api.CreateTokenRequest{Labels: map[string]string{"role": "x"}}); err == nil {
				t.Error("a store that is rolled back makes tokens")
			}
			uid := 0
			_, err := j.Restore(t.Context(), control.Caller{Kind: control.Socket, UID: &uid}, &api.RestoreRequest{Go: true, Reason: "drill", AcceptUnknown: true})
			if err != nil {
				t.Fatal(err)
			}
			j.asking("here")
			j.await("the witness stays an alarm", func() bool { return j.witness("w1").State == "alarm" })
			if words := j.rolledBack(); words != "" {
				t.Errorf("what the restore set aside set the store back again: %s", words)
			}
			if n := len(j.alarms()); n != 1 {
				t.Errorf("%d entries tell of the alarm", n)
			}
		})
	}
}

func (j *journal) rolledBack() string {
	j.t.Helper()
	words, err := j.RolledBack(j.t.Context())
	if err != nil {
		j.t.Fatal(err)
	}
	return words
}

func (j *journal) putBack(copied string) {
	j.t.Helper()
	if err := j.db.Close(); err != nil {
		j.t.Fatal(err)
	}
	storetest.PutBack(j.t, copied, j.plane.Config.Store)
	j.open()
}

// What a witness merely says is an alarm, once and for good, in status and in the
// log, and changes nothing: or a liar could stop everything.
func TestWitnessThatLies(t *testing.T) {
	j := newJournal(t)
	w1 := j.outside("w1")
	j.name(0, w1)
	size := j.grow(5)
	stranger := j.outside("stranger")
	for name, answer := range map[string]http.HandlerFunc{
		"more than there is": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(409)
			_, _ = io.WriteString(w, "1000000\n")
		},
		"another tree": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.WriteHeader(422)
				return
			}
			stranger.state.Handler().ServeHTTP(w, r) // shows what nobody signed
		},
	} {
		w1.Name = strings.ReplaceAll(name, " ", "-")
		j.name(0, w1)
		w1.says(answer)
		stop := j.asking("here")
		j.await(name, func() bool { return j.witness(w1.Name).Tries >= 3 })
		one := j.witness(w1.Name)
		status, err := j.ListPlacements(t.Context(), fleettest.Operator, &api.ListPlacementsRequest{})
		if one.State != "alarm" || one.Alarm == "" || err != nil || len(status.LogAlarms) != 1 || j.rolledBack() != "" {
			t.Errorf("%s: %v, status %v, %v, rolled back: %q", name, one, status.GetLogAlarms(), err, j.rolledBack())
		}
		w1.says(nil)
		j.await("it cosigns after all", func() bool { return j.witness(w1.Name).Size >= size })
		if j.witness(w1.Name).State != "alarm" {
			t.Errorf("%s: the alarm went away by itself", name)
		}
		stop()
	}
	if alarms := j.alarms(); len(alarms) != 2 {
		t.Errorf("%d entries tell of two alarms: %v", len(alarms), alarms)
	}
	if cp, _ := j.published(); cp.Size < size {
		t.Errorf("where none is required, %d entries are published", cp.Size)
	}
}

// One that says that it has cosigned less than it did has forgotten: it goes on,
// and stays an alarm.
func TestWitnessThatForgets(t *testing.T) {
	j := newJournal(t)
	w1 := j.outside("w1")
	j.name(1, w1)
	size := j.grow(5)
	stop := j.asking("here")
	j.await("a cosignature", func() bool { return j.witnesses().Published == size })
	stop()
	w1.forget(j.LogKey())
	grown := j.grow(5)
	j.asking("here")
	j.await("the next", func() bool { return j.witness("w1").Size >= grown })
	if one := j.witness("w1"); one.State != "alarm" || !strings.Contains(one.Alarm, "forgotten") || len(j.alarms()) != 1 {
		t.Errorf("%v", one)
	}
}

// Of two servers on one store one asks, and the other goes on at once where that
// one stops.
func TestOneServerAsksWitnesses(t *testing.T) {
	j := newJournal(t)
	w1 := j.outside("w1")
	j.name(1, w1)
	size := j.grow(5)
	stop := j.asking("here")
	j.await("a cosignature", func() bool { return j.witnesses().Published == size })
	before := w1.asked.Load()
	j.asking("there") // has cosigned nothing yet, by what it knows, and may not ask
	lease, err := j.LeaseWitnesses(t.Context(), "third", time.Minute)
	if err == nil {
		t.Errorf("a third server has the lease: %+v", lease)
	}
	lost := store.Lease{Name: "witnesses", Holder: "here", Fencing: 99}
	for what, err := range map[string]error{
		"cosigned":    j.WitnessCosigned(t.Context(), lost, w1.Peer, size, audit.Cosignature{Line: []byte("x"), At: time.Now()}),
		"failed":      j.WitnessFailed(t.Context(), lost, "w1", "x"),
		"contradicts": j.WitnessContradicts(t.Context(), lost, "w1", control.Contradiction{Says: "x"}),
	} {
		if fault.CodeOf(err) != fault.Conflict {
			t.Errorf("who has lost the lease says that it %s: %v", what, err)
		}
	}
	grown := j.grow(5)
	j.await("the next", func() bool { return j.witnesses().Published == grown })
	if asked := w1.asked.Load() - before; asked != 1 {
		t.Errorf("two servers asked %d times for one checkpoint", asked)
	}
	stop()
	last := j.grow(5)
	j.await("the other server's", func() bool { return j.witnesses().Published == last })
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
