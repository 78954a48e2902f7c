package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
)

// lineWriter hands over what is written line by line.
type lineWriter struct {
	mu    sync.Mutex
	half  bytes.Buffer
	lines chan string
}

func newLineWriter() *lineWriter { return &lineWriter{lines: make(chan string, 1000)} }

func (w *lineWriter) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.half.Write(data)
	for {
		line, err := w.half.ReadString('\n')
		if err != nil {
			w.half.Reset()
			w.half.WriteString(line)
			return len(data), nil
		}
		w.lines <- strings.TrimSuffix(line, "\n")
	}
}

// started runs a command line until the test ends, and hands over its lines.
func started(t *testing.T, args ...string) (lines <-chan string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out := newLineWriter()
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(io.Discard)
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%v ended with: %v", args, err)
		}
	})
	return out.lines
}

func TestAuditTailFollows(t *testing.T) {
	l := newLogServer(t, 9)
	l.breaks = 2 // the server restarts twice
	credentials := newOperator(t, l)
	lines := started(t, "audit", "tail", "-n", "3", "-f", "--credentials", credentials)
	for _, want := range []string{"Token/6", "Token/7", "Token/8"} {
		if line := <-lines; !strings.Contains(line, want) || !strings.Contains(line, "operator/ann  token.create "+want+"  done") {
			t.Errorf("line %q, want %s", line, want)
		}
	}
	for _, want := range []string{"Token/9", "Token/10", "Token/11", "Token/12"} {
		l.grow(t, 1, "apply")
		if line := <-lines; !strings.Contains(line, "apply "+want+" ") {
			t.Errorf("line %q, want %s", line, want)
		}
	}
}

func TestAuditTailShowsAnEntryOnce(t *testing.T) {
	var out bytes.Buffer
	view := &tail{ui: &ui{out: &out}, json: true, pending: map[string]bool{}}
	view.next = treeSize([]byte("prod.example/audit\n7\nroot\n\n— sig"))
	view.print(&api.AuditEntry{Id: "a", Pending: true, Content: []byte("{}")})
	view.show(&api.ListAuditEntriesResponse{Entries: []*api.AuditEntry{{Id: "a", Index: 7}, {Id: "b", Index: 8}}})
	view.show(&api.ListAuditEntriesResponse{Entries: []*api.AuditEntry{{Id: "b", Index: 8}, {Id: "c", Index: 9}}})
	var seen []string
	for line := range strings.Lines(out.String()) {
		var entry struct{ ID string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, entry.ID)
	}
	if got := strings.Join(seen, ""); got != "abc" {
		t.Errorf("showed %s, want abc", got)
	}
}

// placementServer sends pictures of the placements as a test makes them.
type placementServer struct {
	apiconnect.UnimplementedOperatorServiceHandler
	pictures chan *api.ListPlacementsResponse // nil ends a stream
}

func (s *placementServer) WatchPlacements(ctx context.Context, _ *connect.Request[api.ListPlacementsRequest], stream *connect.ServerStream[api.ListPlacementsResponse]) error {
	for {
		select {
		case picture := <-s.pictures:
			if picture == nil {
				return connect.NewError(connect.CodeUnavailable, io.ErrUnexpectedEOF)
			}
			if err := stream.Send(picture); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func TestWatchPrintsChanges(t *testing.T) {
	s := &placementServer{pictures: make(chan *api.ListPlacementsResponse)}
	lines := started(t, "watch", "--credentials", newOperator(t, s))
	one := func(generation uint64, state api.State) *api.ListPlacementsResponse {
		return &api.ListPlacementsResponse{Placements: []*api.PlacementStatus{
			{Id: "p-0", Intent: "web", Agent: "host-1", Instance: "main", Generation: 1, State: api.State_STATE_STEADY},
			{Id: "p-1", Intent: "orders", Agent: "host-1", Instance: "main", Generation: generation, State: state},
		}}
	}
	expect := func(want string) {
		t.Helper()
		if line := <-lines; !strings.Contains(line, want) {
			t.Errorf("line %q, want %q", line, want)
		}
	}
	s.pictures <- one(4, api.State_STATE_STEADY)
	expect("web host-1 main: generation 1, nothing, steady")
	expect("orders host-1 main: generation 4, nothing, steady")
	s.pictures <- one(4, api.State_STATE_STEADY) // the same says nothing
	s.pictures <- nil                            // the server restarts
	s.pictures <- one(4, api.State_STATE_ROTATING)
	expect("orders host-1 main: generation 4, nothing, rotating")
	s.pictures <- one(5, api.State_STATE_STEADY)
	expect("orders host-1 main: generation 5, nothing, steady")
}

// A watch that is refused, or that never reached a server, ends.
func TestWatchEnds(t *testing.T) {
	credentials := newOperator(t, &apiconnect.UnimplementedOperatorServiceHandler{})
	if code, _, errs := rotunda("watch", "--credentials", credentials); code != exitError || !strings.Contains(errs, "this server is older") {
		t.Errorf("refused: exit %d\n%s", code, errs)
	}
	if code, _, errs := rotunda("watch", "--socket", "nowhere.sock"); code != exitError || !strings.Contains(errs, "cannot reach") {
		t.Errorf("unreached: exit %d\n%s", code, errs)
	}
}
