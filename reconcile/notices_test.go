package reconcile_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/reconcile"
	"github.com/rotunda-pki/rotunda/store"
)

const secret = "a secret of notices for tests"

// receiver takes notices, and holds each to its signature.
type receiver struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	events []string // as they were taken
	ids    []string
	bodies []map[string]any
	answer func(w http.ResponseWriter, r *http.Request) bool // nil, or true: it takes it
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	content, err := io.ReadAll(req.Body)
	if err != nil {
		return // who posted has hung up
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(content)
	if got := req.Header.Get("Rotunda-Signature"); got != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		r.t.Errorf("signature %q of %s", got, content)
	}
	body := map[string]any{}
	if err := json.Unmarshal(content, &body); err != nil || body["id"] != req.Header.Get("Idempotency-Key") {
		r.t.Errorf("%v: %s under key %q", err, content, req.Header.Get("Idempotency-Key"))
	}
	r.mu.Lock()
	answer := r.answer
	r.ids = append(r.ids, fmt.Sprint(body["id"]))
	r.mu.Unlock()
	if answer != nil && !answer(w, req) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events, r.bodies = append(r.events, fmt.Sprint(body["event"])), append(r.bodies, body)
}

func (r *receiver) set(answer func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func notified(url string) string {
	return strings.Replace(cluster, "owner: {", fmt.Sprintf("owner: {notify: %q, ", url), 1)
}

// Owners are told, by the server's own loop, before a rollout, at its start and
// at its end, in this order, and the notices are listed as sent.
func TestOwnersAreTold(t *testing.T) {
	r := newReceiver(t)
	p := fleettest.NewPlane(t)
	p.Stop()
	p.Config.Notices.SecretFile = filepath.Join(p.Dir, "notices.secret")
	if err := os.WriteFile(p.Config.Notices.SecretFile, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Start()
	root := t.TempDir()
	host := p.NewHost(map[string]string{"role": "cache", "host": "h"})
	host.Config.Allow.Directories = []string{root}
	host.Start()
	p.Apply(strings.ReplaceAll(notified(r.URL), "TREE", root))
	p.Await("first issuance", fleettest.Steady(1, 1))
	_, err := p.StartRollout(t.Context(), fleettest.Operator, &api.StartRolloutRequest{
		Intent: "cache", Reason: "drill", Spec: &api.RolloutSpec{PerMinute: 1000, Told: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Await("all is told", func([]*api.PlacementStatus) bool { return len(r.taken()) == 3 })
	if got := r.taken(); !slices.Equal(got, []string{"announced", "started", "done"}) {
		t.Errorf("told %v", got)
	}
	body := r.bodies[0]
	owner, change := body["owner"].(map[string]any), body["change"].(map[string]any)
	if body["service"] != "cache" || owner["contact"] == "" || owner["runbook"] == "" || change["name"] != "cache" || change["reason"] != "drill" ||
		body["show"] != "rotunda rollout status cache" {
		t.Errorf("body %v", body)
	}
	p.Await("all is marked", func([]*api.PlacementStatus) bool {
		list, err := p.ListNotices(t.Context(), fleettest.Operator, &api.ListNoticesRequest{Sent: true})
		return err == nil && len(list.Notices) == 3 && !slices.ContainsFunc(list.Notices, func(n *api.Notice) bool { return n.State != "sent" || n.EndedAt == nil })
	})
}

// outbox is a stopped control plane with a rollout to be told of, without its
// loops: passes are made by hand, on a clock that the test turns.
type outbox struct {
	*control.Control
	t      *testing.T
	plane  *fleettest.Plane
	db     *store.DB
	offset time.Duration
	poster *reconcile.Poster
}

func newOutbox(t *testing.T, url string) *outbox {
	p := fleettest.NewPlane(t)
	root := t.TempDir()
	host := p.NewHost(map[string]string{"role": "cache", "host": "h"})
	host.Config.Allow.Directories = []string{root}
	host.Start()
	p.Apply(strings.ReplaceAll(notified(url), "TREE", root))
	p.Await("first issuance", fleettest.Steady(1, 1))
	host.Stop()
	p.Stop()
	o := &outbox{t: t, plane: p, poster: reconcile.NewPoster(func() ([]byte, error) { return []byte(secret), nil })}
	o.poster.Within, o.poster.Tries = 2*time.Second, 3
	o.open()
	t.Cleanup(func() { o.db.Close() })
	return o
}

func (o *outbox) now() time.Time { return time.Now().Add(o.offset) }

// open is what a new process does.
func (o *outbox) open() {
	o.t.Helper()
	kek, err := keys.OpenKEK(keys.Source{File: o.plane.Config.KEK.File})
	if err != nil {
		o.t.Fatal(err)
	}
	if o.db, err = store.Open(o.t.Context(), o.plane.Place(o.now)); err != nil {
		o.t.Fatal(err)
	}
	o.Control, err = control.Open(o.t.Context(), control.Options{
		DB: o.db, KEK: kek, PublicURL: o.plane.Config.PublicURL, AgentAddress: o.plane.Config.AgentAddress, Witnesses: o.plane.Config.Witnesses, Now: o.now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *outbox) start(name string) {
	o.t.Helper()
	_, err := o.StartRollout(o.t.Context(), fleettest.Operator, &api.StartRolloutRequest{Name: name, Intent: "cache", Spec: &api.RolloutSpec{Told: true}})
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *outbox) abort(name string) {
	o.t.Helper()
	_, err := o.DecideRollout(o.t.Context(), fleettest.Operator, &api.DecideRolloutRequest{Rollout: name, Act: "abort", Reason: "drill"})
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *outbox) pass() int {
	o.t.Helper()
	n, err := o.poster.Pass(o.t.Context(), o.Control, slog.New(slog.DiscardHandler))
	if err != nil {
		o.t.Fatal(err)
	}
	return n
}

func (o *outbox) notices() []*api.Notice {
	o.t.Helper()
	list, err := o.ListNotices(o.t.Context(), fleettest.Operator, &api.ListNoticesRequest{Sent: true})
	if err != nil {
		o.t.Fatal(err)
	}
	slices.Reverse(list.Notices) // the oldest first
	return list.Notices
}

// wantState fails unless the oldest notice is in the state, for the reason.
func (o *outbox) wantState(state, why string) {
	o.t.Helper()
	if n := o.notices()[0]; n.State != state || !strings.Contains(n.LastError, why) || why == "" && n.LastError != "" {
		o.t.Errorf("the notice is %s after %d tries: %q; want %s: %q", n.State, n.Tries, n.LastError, state, why)
	}
}

// A receiver that is down, answers 500, is slow or redirects gets the same
// notice again, with the same id, until it takes it; a restart in between is
// nothing to it, and what comes later waits its turn.
func TestReceiverThatFails(t *testing.T) {
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	for name, test := range map[string]struct {
		fault func(r *receiver, release <-chan struct{})
		why   string
	}{
		"500":       {func(r *receiver, _ <-chan struct{}) { r.set(status(http.StatusInternalServerError)) }, "it answers 500: no"},
		"redirects": {func(r *receiver, _ <-chan struct{}) { r.set(redirect(other.URL)) }, "redirects are not followed"},
		"slow": {func(r *receiver, release <-chan struct{}) {
			r.set(func(_ http.ResponseWriter, req *http.Request) bool {
				select {
				case <-release:
				case <-req.Context().Done():
				}
				return false
			})
		}, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			release := make(chan struct{})
			o := newOutbox(t, r.URL)
			defer close(release)
			if name == "slow" {
				o.poster.Within = 50 * time.Millisecond
			}
			test.fault(r, release)
			o.start("cache")
			o.abort("cache")
			if n := o.pass(); n != 1 {
				t.Fatalf("%d are posted: the end has to wait for the announcement", n)
			}
			o.wantState("pending", test.why)
			if n := o.pass(); n != 0 {
				t.Fatalf("%d are posted without a pause", n)
			}
			if err := o.db.Close(); err != nil {
				t.Fatal(err)
			}
			o.open()
			r.set(nil)
			o.poster.Within = 2 * time.Second
			o.offset += time.Hour
			for range 2 {
				o.pass()
			}
			o.wantState("sent", "")
			if got := r.taken(); !slices.Equal(got, []string{"announced", "aborted"}) || elsewhere > 0 {
				t.Errorf("taken %v, %d elsewhere", got, elsewhere)
			}
			if len(r.ids) != 3 || r.ids[0] != r.ids[1] {
				t.Errorf("ids %v: the repetition is to have the first one's", r.ids)
			}
		})
	}
}

func status(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "no", code)
		return false
	}
}

func redirect(to string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		return false
	}
}

// Who listens again after a while gets what was told meanwhile.
func TestReceiverThatIsDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	o := newOutbox(t, "http://"+address)
	o.start("cache")
	o.pass()
	o.wantState("pending", "connection refused")
	r := &receiver{t: t}
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	back := &http.Server{Handler: http.HandlerFunc(r.serve)}
	go back.Serve(l)
	defer back.Close()
	o.offset += time.Hour
	o.pass()
	o.wantState("sent", "")
	if got := r.taken(); !slices.Equal(got, []string{"announced"}) {
		t.Errorf("taken %v", got)
	}
}

// A server that dies between a post and its mark posts the notice again when it
// is back, under the same id: it is not lost, and the receiver can tell.
func TestKilledBetweenPostAndMark(t *testing.T) {
	r := newReceiver(t)
	o := newOutbox(t, r.URL)
	o.start("cache")
	r.set(func(http.ResponseWriter, *http.Request) bool {
		o.db.Close() // the post is out, and nothing more will be written
		return true
	})
	o.pass()
	o.open()
	o.wantState("pending", "")
	if n := o.pass(); n != 0 {
		t.Fatalf("%d are posted while the one before may be under way", n)
	}
	r.set(nil)
	o.offset += time.Minute
	o.pass()
	o.wantState("sent", "")
	if len(r.ids) != 2 || r.ids[0] != r.ids[1] {
		t.Errorf("ids %v, want one, twice", r.ids)
	}
	o.offset += time.Hour
	if n := o.pass(); n != 0 {
		t.Errorf("%d more are posted", n)
	}
}

// After its tries a notice is listed as undelivered, which is in the audit log,
// and later ones get their turn; an operator may have it tried again.
func TestUndelivered(t *testing.T) {
	r := newReceiver(t)
	o := newOutbox(t, r.URL)
	r.set(status(http.StatusNotFound))
	o.start("cache")
	o.abort("cache")
	for range 3 {
		o.pass()
		o.offset += time.Hour
	}
	o.wantState("undelivered", "it answers 404")
	r.set(nil)
	o.pass()
	if got := r.taken(); !slices.Equal(got, []string{"aborted"}) {
		t.Errorf("taken %v", got)
	}
	list, err := o.ListAuditEntries(t.Context(), fleettest.Operator, &api.ListAuditEntriesRequest{Newest: true})
	if err != nil {
		t.Fatal(err)
	}
	verbs := fmt.Sprint(list.Entries)
	for _, verb := range []string{"notice.undelivered", "notice.sent"} {
		if !strings.Contains(verbs, verb) {
			t.Errorf("no entry %s", verb)
		}
	}
	id := o.notices()[0].Id
	if _, err := o.RetryNotices(t.Context(), fleettest.Operator, &api.RetryNoticesRequest{Id: o.notices()[1].Id}); err == nil {
		t.Error("what was sent is tried again")
	}
	retried, err := o.RetryNotices(t.Context(), fleettest.Operator, &api.RetryNoticesRequest{})
	if err != nil || retried.Count != 1 {
		t.Fatalf("%v, %v", retried, err)
	}
	o.pass()
	if o.wantState("sent", ""); r.ids[len(r.ids)-1] != id {
		t.Errorf("ids %v", r.ids)
	}
}

// Two servers on one store do not post one notice at once.
func TestTwoServersPostOnce(t *testing.T) {
	r := newReceiver(t)
	o := newOutbox(t, r.URL)
	for i := range 8 {
		o.start(fmt.Sprint("cache-", i))
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() { o.pass() })
	}
	group.Wait()
	if got := r.taken(); len(got) != 8 {
		t.Errorf("%d notices, taken %d times", 8, len(got))
	}
}

// A receiver whose certificate nobody vouches for is told nothing.
func TestUnverifiedReceiver(t *testing.T) {
	var asked int
	r := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	r.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	r.StartTLS()
	defer r.Close()
	o := newOutbox(t, r.URL)
	o.start("cache")
	o.pass()
	if o.wantState("pending", "certificate signed by unknown authority"); asked != 0 {
		t.Error("it was posted")
	}
	o.poster.Secret = func() ([]byte, error) { return nil, fmt.Errorf("no secret") }
	o.offset += time.Hour
	o.pass()
	o.wantState("pending", "no secret")
}
