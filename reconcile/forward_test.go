package reconcile_test

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/forward"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/loopback"
	"github.com/rotunda-pki/rotunda/reconcile"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func numberOf(t *testing.T, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Error(err)
	}
	return n
}

// journal is a control plane without its loops, whose log grows at the test's
// word.
type journal struct{ *outbox }

func newJournal(t *testing.T) *journal {
	p := fleettest.NewPlane(t)
	p.Stop()
	o := &outbox{t: t, plane: p}
	o.open()
	t.Cleanup(func() { o.db.Close() })
	return &journal{o}
}

// grow adds entries to the log and returns its size.
func (j *journal) grow(n int) uint64 {
	j.t.Helper()
	for range n {
		if _, err := j.CreateToken(j.t.Context(), fleettest.Operator, &api.CreateTokenRequest{Labels: map[string]string{"role": "cache"}}); err != nil {
			j.t.Fatal(err)
		}
	}
	if _, err := j.SequenceAudit(j.t.Context()); err != nil {
		j.t.Fatal(err)
	}
	list, err := j.ListAuditSinks(j.t.Context(), fleettest.Operator, &api.ListAuditSinksRequest{})
	if err != nil {
		j.t.Fatal(err)
	}
	return list.Size
}

func (j *journal) sink(name string) *api.AuditSink {
	j.t.Helper()
	list, err := j.ListAuditSinks(j.t.Context(), fleettest.Operator, &api.ListAuditSinksRequest{})
	if err != nil {
		j.t.Fatal(err)
	}
	for _, one := range list.Sinks {
		if one.Name == name {
			return one
		}
	}
	j.t.Fatalf("no sink %s", name)
	return nil
}

func (j *journal) forwarder(config forward.Config, holder string) *reconcile.Forwarder {
	j.t.Helper()
	if err := j.DeclareSink(j.t.Context(), config); err != nil {
		j.t.Fatal(err)
	}
	f := reconcile.NewForwarder(config, j.Origin(), holder)
	f.Within = time.Second
	j.t.Cleanup(f.Sink.Close)
	return f
}

// drain makes passes until there is nothing more to send.
func (j *journal) drain(f *reconcile.Forwarder) {
	j.t.Helper()
	for {
		n, err := f.Pass(j.t.Context(), j.Control)
		if err != nil {
			j.t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

func otlpTo(url string) forward.Config {
	return forward.Config{Name: "siem", Kind: forward.KindOTLP, Address: url + "/v1/logs"}
}

func syslogTo(address string) forward.Config {
	return forward.Config{Name: "host", Kind: forward.KindSyslog, Address: "tcp://" + address}
}

// Whatever a collector answers but that it took all, nothing is passed over, and
// the failure can be seen; then all of it comes, once.
func TestCollectorMissesNothing(t *testing.T) {
	c, j := newCollector(t), newJournal(t)
	size := j.grow(20)
	f := j.forwarder(otlpTo(c.URL), "here")
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request, int) bool{
		"503":                      func(w http.ResponseWriter, _ *http.Request, _ int) bool { w.WriteHeader(503); return false },
		"202, which is not OTLP's": func(w http.ResponseWriter, _ *http.Request, _ int) bool { w.WriteHeader(202); return false },
		"a web page": func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			_, _ = w.Write([]byte("hello"))
			return false
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request, _ int) bool {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return false
		},
		"a part": func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			respond(w, &collectorpb.ExportLogsServiceResponse{PartialSuccess: &collectorpb.ExportLogsPartialSuccess{RejectedLogRecords: 1, ErrorMessage: "too old"}})
			return false
		},
		"nothing, for too long": func(_ http.ResponseWriter, r *http.Request, _ int) bool { <-r.Context().Done(); return false },
		"the end":               func(http.ResponseWriter, *http.Request, int) bool { panic(http.ErrAbortHandler) },
	} {
		c.set(answer)
		if _, err := f.Pass(t.Context(), j.Control); err == nil {
			t.Errorf("%s is taken for success", name)
		}
		if sink := j.sink("siem"); sink.Taken != 0 || sink.State != "failing" || sink.LastError == "" || sink.Lag != size || sink.BehindSince == nil {
			t.Errorf("after %s the sink shows %v", name, sink)
		}
	}
	c.set(nil)
	j.drain(f)
	for index := range size {
		if n := c.often(index); n != 1 {
			t.Errorf("entry %d came %d times", index, n)
		}
	}
	if sink := j.sink("siem"); sink.State != "current" || sink.Taken != size || sink.LastError != "" || sink.TakenAt == nil {
		t.Errorf("it shows %v", sink)
	}
	size = j.grow(1)
	j.drain(f)
	if c.gap(size) != size {
		t.Errorf("entry %d is missing", c.gap(size))
	}
}

// A collector that refuses whatever is larger than it likes gets less at a time.
func TestFewerAtATime(t *testing.T) {
	c, j := newCollector(t), newJournal(t)
	size := j.grow(20)
	f := j.forwarder(otlpTo(c.URL), "here")
	c.set(func(w http.ResponseWriter, _ *http.Request, entries int) bool {
		if entries > 3 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
		return entries <= 3
	})
	for c.gap(size) < size {
		if _, err := f.Pass(t.Context(), j.Control); err != nil && !strings.Contains(err.Error(), "413") {
			t.Fatal(err)
		}
	}
}

// A collector that says when to come back is left alone until then.
func TestCollectorSaysWhen(t *testing.T) {
	c, j := newCollector(t), newJournal(t)
	size := j.grow(3)
	calls := make(chan time.Time, 2)
	c.set(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		calls <- time.Now()
		if len(calls) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return false
		}
		return true
	})
	j.forwarding(otlpTo(c.URL))
	awaitAll(t, &c.taken, size)
	if first, second := <-calls, <-calls; second.Sub(first) < time.Second {
		t.Errorf("it was asked again after %s", second.Sub(first))
	}
}

// forwarding runs a forwarder that waits for hardly anything by itself, until the
// test ends.
func (j *journal) forwarding(config forward.Config) {
	j.t.Helper()
	f := j.forwarder(config, "here")
	f.Wait = func(int) time.Duration { return time.Millisecond }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = f.Run(ctx, j.Control, slog.New(slog.DiscardHandler)) }()
	j.t.Cleanup(func() { cancel(); <-ended })
}

// A process that ends after the sink took entries and before that was recorded
// sends them again, and none is missing.
func TestEndBetweenSentAndRecorded(t *testing.T) {
	c, j := newCollector(t), newJournal(t)
	size := j.grow(5)
	f := j.forwarder(otlpTo(c.URL), "first")
	ctx, cancel := context.WithCancel(t.Context())
	c.after = cancel
	if _, err := f.Pass(ctx, j.Control); err == nil {
		t.Fatal("it was recorded")
	}
	if sink := j.sink("siem"); sink.Taken != 0 || c.gap(size) != size {
		t.Fatalf("the sink has all below %d, recorded are %d", c.gap(size), sink.Taken)
	}
	j.db.Close()
	c.mu.Lock()
	c.after = nil
	c.mu.Unlock()
	j.offset += time.Minute // the lease of the dead has lapsed
	j.open()
	size = j.grow(3)
	j.drain(j.forwarder(otlpTo(c.URL), "second"))
	if c.gap(size) != size || c.often(0) != 2 || c.often(size-1) != 1 {
		t.Errorf("missing %d, the first came %d times, the last %d", c.gap(size), c.often(0), c.often(size-1))
	}
}

// Of two servers one forwards; when it is gone the other does.
func TestOneServerForwards(t *testing.T) {
	c, j := newCollector(t), newJournal(t)
	j.grow(5)
	first, second := j.forwarder(otlpTo(c.URL), "first"), j.forwarder(otlpTo(c.URL), "second")
	j.drain(first)
	j.grow(5)
	if n, err := second.Pass(t.Context(), j.Control); n != 0 || err != nil {
		t.Errorf("the second sent %d under the first's lease, %v", n, err)
	}
	j.offset += time.Minute
	j.drain(second)
	size := j.grow(1)
	if n, err := first.Pass(t.Context(), j.Control); n != 0 || err != nil {
		t.Errorf("the first sent %d under the second's lease, %v", n, err)
	}
	j.drain(second)
	for index := range size {
		if n := c.often(index); n != 1 {
			t.Errorf("entry %d came %d times", index, n)
		}
	}
}

// Who lost the lease while the sink took entries records nothing, though nobody
// else has moved the cursor.
func TestLostLeaseRecordsNothing(t *testing.T) {
	j := newJournal(t)
	j.grow(5)
	j.forwarder(otlpTo("http://127.0.0.1"), "first")
	lost, err := j.LeaseSink(t.Context(), "siem", "first", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	j.offset += 2 * time.Minute
	held, err := j.LeaseSink(t.Context(), "siem", "second", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.SinkTook(t.Context(), lost, "siem", 0, 3); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("recorded under a lost lease: %v", err)
	}
	if err := j.SinkFailed(t.Context(), lost, "siem", "down"); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a failure recorded under a lost lease: %v", err)
	}
	if err := j.SinkTook(t.Context(), held, "siem", 0, 3); err != nil || j.sink("siem").Taken != 3 {
		t.Errorf("under the lease that is held: %v", err)
	}
}

// A receiver of syslog that accepts and never reads dies with all that its
// kernel took. The next one gets the whole log.
func TestReceiverDiesWithItsBuffers(t *testing.T) {
	h, j := newLogHost(t, "127.0.0.1:0", true), newJournal(t)
	size := j.grow(50)
	config := syslogTo(h.address())
	f := j.forwarder(config, "here")
	j.drain(f)
	if sink := j.sink("host"); sink.Taken != size {
		t.Fatalf("the kernel took what it was given, recorded are %d", sink.Taken)
	}
	h.die()
	deadline := time.Now().Add(fleettest.Patience)
	for !f.Sink.Lost() {
		if time.Now().After(deadline) {
			t.Fatal("it does not notice the end of the connection")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := f.Pass(t.Context(), j.Control); err == nil {
		t.Fatal("nobody listens, and it succeeds")
	}
	if sink := j.sink("host"); sink.State != "failing" {
		t.Errorf("it shows %v", sink)
	}
	next := newLogHost(t, config.Address[len("tcp://"):], false)
	j.drain(f)
	awaitAll(t, &next.taken, size)
	if sink := j.sink("host"); sink.State != "current" {
		t.Errorf("it shows %v", sink)
	}
}

func awaitAll(t *testing.T, k *taken, size uint64) {
	t.Helper()
	for deadline := time.Now().Add(fleettest.Patience); k.gap(size) != size; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("entry %d of %d is missing", k.gap(size), size)
		}
	}
}

// A receiver that reads nothing fills the buffers; then a send ends in its time.
func TestReceiverThatReadsNothing(t *testing.T) {
	h := newLogHost(t, "127.0.0.1:0", true)
	sink := forward.New(syslogTo(h.address()), "fleet.example/audit")
	defer sink.Close()
	large := forward.Entry{Content: []byte(strings.Repeat("x", 60_000))}
	for range 1000 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, _, err := sink.Open(ctx)
		if err == nil {
			err = sink.Send(ctx, []forward.Entry{large})
		}
		cancel()
		if err != nil {
			if !sink.Lost() {
				t.Error("a message is there by half, and the connection is used on")
			}
			return
		}
	}
	t.Error("60 MB were taken by nobody")
}

// The server's own loops: a sink that hangs and one that is not there hold
// neither the server nor the others, over the headers that a file names; when
// one comes back it gets all.
func TestHangingSinkHoldsNobody(t *testing.T) {
	hanging, good := newCollector(t), newCollector(t)
	hanging.set(func(_ http.ResponseWriter, r *http.Request, _ int) bool { <-r.Context().Done(); return false })
	absent, err := loopback.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	p := fleettest.NewPlane(t)
	p.Stop()
	headers := filepath.Join(p.Dir, "headers")
	if err := os.WriteFile(headers, []byte("Authorization: Bearer abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	one, two, three := otlpTo(hanging.URL), otlpTo(good.URL), syslogTo(absent)
	one.Name, two.HeadersFile = "hangs", headers
	p.Config.Forward = []forward.Config{one, two, three}
	p.Start()
	size := func() uint64 {
		list, err := p.ListAuditSinks(t.Context(), fleettest.Operator, &api.ListAuditSinksRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return list.Size
	}
	var h *logHost
	for range 2 {
		before := size()
		if _, err := p.CreateToken(t.Context(), fleettest.Operator, &api.CreateTokenRequest{}); err != nil {
			t.Fatal(err)
		}
		p.Await("the entry has its index", func([]*api.PlacementStatus) bool { return size() > before })
		awaitAll(t, &good.taken, size())
		if h == nil {
			h = newLogHost(t, absent, false)
		}
		awaitAll(t, &h.taken, size())
	}
	if got := good.header.Get("Authorization"); got != "Bearer abc" {
		t.Errorf("Authorization is %q", got)
	}
	p.Stop() // within its time, though one hangs
}
