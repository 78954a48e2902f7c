package lab

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/api"
)

// Host is one host with its agent: an agent.yaml, a state directory, what is
// desired of it and the executor at work on that. It outlives its process.
type Host struct {
	Dir   string
	Name  string
	Plane *Plane
	// Reached is told of each point between two effects. nil: nobody is.
	Reached func(point string)
	// Look sees each new set of reports before whoever waits for it does.
	Look func([]*api.PlacementReport)

	mu       sync.Mutex
	desired  *api.DesiredState
	executor *agent.Executor
	shown    []*api.PlacementReport
	news     chan struct{} // closed, and made anew, at each new set
	stop     func() error
}

// OpenHost opens a host's directory, or makes it.
func OpenHost(dir, name string, plane *Plane) (*Host, error) {
	h := &Host{Dir: dir, Name: name, Plane: plane, desired: &api.DesiredState{Epoch: 1}, news: make(chan struct{})}
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o700); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(h.path("desired.json"))
	if os.IsNotExist(err) {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	return h, protojson.Unmarshal(text, h.desired)
}

func (h *Host) path(name string) string { return filepath.Join(h.Dir, name) }

// Desired is what is desired of a placement now.
func (h *Host) Desired(id string) *api.DesiredPlacement {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.desired.GetPlacements() {
		if d.GetPlacementId() == id {
			return proto.CloneOf(d)
		}
	}
	return nil
}

// Want changes what is desired of a placement; one that is not known yet is
// handed to change with nothing but its id.
func (h *Host) Want(id string, change func(*api.DesiredPlacement)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := proto.CloneOf(h.desired)
	next.Seq++
	i := slices.IndexFunc(next.Placements, func(d *api.DesiredPlacement) bool { return d.GetPlacementId() == id })
	if i < 0 {
		i = len(next.Placements)
		next.Placements = append(next.Placements, &api.DesiredPlacement{PlacementId: id})
	}
	change(next.Placements[i])
	text, err := protojson.Marshal(next)
	if err != nil {
		return err
	}
	if err := os.WriteFile(h.path("desired.json"), text, 0o600); err != nil {
		return err
	}
	h.desired = next
	if h.executor != nil {
		h.executor.SetDesired(next)
	}
	return nil
}

// Start begins to carry out what is desired.
func (h *Host) Start() error {
	config, err := agent.LoadConfig(h.path("agent.yaml"), agent.DefaultState)
	if err != nil {
		return err
	}
	state, err := os.OpenRoot(h.path("state"))
	if err != nil {
		return err
	}
	e, err := agent.NewExecutor(agent.ExecutorOptions{
		Host: config.HostRules(), State: state, AgentID: h.Name,
		Issue: h.issue, Bundles: h.Plane.bundles, Canaries: h.Plane.canaries, Sign: h.testify,
		Reached: h.reached, Log: slog.New(slog.NewTextHandler(h.journal(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	var watching sync.WaitGroup
	watching.Go(func() { h.watch(ctx, e) })
	h.mu.Lock()
	h.executor, h.shown = e, nil
	e.SetDesired(h.desired)
	h.stop = func() error {
		cancel()
		err := <-ended
		watching.Wait()
		return err
	}
	h.mu.Unlock()
	go func() {
		err := e.Run(ctx)
		if closing := state.Close(); err == nil {
			err = closing
		}
		ended <- err
	}()
	return nil
}

// Stop ends the agent as a signal would. It may be repeated.
func (h *Host) Stop() error {
	h.mu.Lock()
	stop := h.stop
	h.stop, h.executor = nil, nil
	h.mu.Unlock()
	if stop == nil {
		return nil
	}
	return stop()
}

func (h *Host) reached(point string) {
	h.mu.Lock()
	reached := h.Reached
	h.mu.Unlock()
	if reached != nil {
		reached(point)
	}
}

// OnReached replaces whom points are told to.
func (h *Host) OnReached(reached func(point string)) {
	h.mu.Lock()
	h.Reached = reached
	h.mu.Unlock()
}

// watch looks at each new set of reports, then shows it.
func (h *Host) watch(ctx context.Context, e *agent.Executor) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.Changed():
		}
		reports := e.Reports()
		if h.Look != nil {
			h.Look(reports)
		}
		h.mu.Lock()
		h.shown = reports
		close(h.news)
		h.news = make(chan struct{})
		h.mu.Unlock()
	}
}

// Now is what the executor reports at this moment, looked at or not.
func (h *Host) Now(id string) *api.PlacementReport {
	h.mu.Lock()
	e := h.executor
	h.mu.Unlock()
	if e == nil {
		return nil
	}
	return find(e.Reports(), id)
}

// Await waits for a report that fits. The error tells the last one.
func (h *Host) Await(ctx context.Context, id, what string, fits func(*api.PlacementReport) bool) (*api.PlacementReport, error) {
	for {
		h.mu.Lock()
		report, news := find(h.shown, id), h.news
		h.mu.Unlock()
		if report != nil && fits(report) {
			return report, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return report, fmt.Errorf("%s/%s: never %s; last report: %s", h.Name, id, what, brief(report))
		}
	}
}

func find(reports []*api.PlacementReport, id string) *api.PlacementReport {
	for _, report := range reports {
		if report.GetPlacementId() == id {
			return report
		}
	}
	return nil
}

func brief(r *api.PlacementReport) string {
	if r == nil {
		return "none"
	}
	short := proto.CloneOf(r)
	short.Evidence = nil
	return strings.Join(strings.Fields(short.String()), " ")
}

func (h *Host) issue(_ context.Context, requests []*api.PlacementRequest) ([]*api.IssueResult, error) {
	if err := h.Plane.gone(); err != nil {
		return nil, err
	}
	var results []*api.IssueResult
	for _, request := range requests {
		chain, err := h.Plane.Sign(h.Desired(request.GetPlacementId()), request)
		if err != nil {
			return nil, err
		}
		results = append(results, &api.IssueResult{Chain: chain})
	}
	return results, nil
}

// testify stands for the agent's signature, which nobody checks here.
func (h *Host) testify(statement []byte) (*api.Evidence, error) {
	sum := sha256.Sum256(statement)
	return &api.Evidence{Statement: statement, Signature: sum[:], Observer: h.Name}, nil
}

// journal is where the agent writes what it does: a file, for whoever looks
// into a failure.
func (h *Host) journal() *os.File {
	f, err := os.OpenFile(h.path("agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return os.Stderr
	}
	return f
}

// Journal is the end of what the agent wrote.
func (h *Host) Journal() string {
	const most = 25
	text, err := os.ReadFile(h.path("agent.log"))
	if err != nil {
		return err.Error()
	}
	var told []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "destroy") && !strings.Contains(line, "action=remove") { // tidying up
			told = append(told, line)
		}
	}
	return strings.Join(told[max(0, len(told)-most):], "")
}
