package operator

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/demo/process"
)

// maxLine bounds one line of rotunda watch.
const maxLine = 1 << 20

// Fleet is the placements as rotunda watch tells of them, kept up to date.
type Fleet struct {
	mu         sync.Mutex
	placements map[string]Placement
	took       map[rotation]time.Duration
	changed    chan struct{} // closed and replaced at each change
	err        error         // watching ended
	ended      chan struct{}
	stop       context.CancelFunc
}

// rotation is one generation's coming into use.
type rotation struct {
	placement  string
	generation uint64
}

// Watch follows the placements until Close.
func (r Rotunda) Watch() (*Fleet, error) {
	ctx, stop := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, r.Binary, "watch", "--output", "json")
	command.Env = append(os.Environ(), r.Environment()...)
	command.SysProcAttr = process.Bound()
	var said strings.Builder
	command.Stderr = &said
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("start rotunda watch: %w", err)
	}
	f := &Fleet{
		placements: make(map[string]Placement), took: make(map[rotation]time.Duration),
		changed: make(chan struct{}), ended: make(chan struct{}), stop: stop,
	}
	go func() {
		defer close(f.ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			f.take(lines.Bytes())
		}
		err := command.Wait()
		f.fail(fmt.Errorf("rotunda watch ended: %v: %s", err, strings.TrimSpace(said.String())))
	}()
	return f, nil
}

// Close ends watching.
func (f *Fleet) Close() {
	f.stop()
	<-f.ended
}

func (f *Fleet) take(line []byte) {
	var p Placement
	if err := json.Unmarshal(line, &p); err != nil {
		f.fail(fmt.Errorf("read a line of rotunda watch: %w", err))
		return
	}
	f.Update([]Placement{p})
}

// Update takes in what is known of some placements now.
func (f *Fleet) Update(placements []Placement) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range placements {
		f.placements[p.ID] = p
		if p.Steady() && p.Took > 0 {
			f.took[rotation{p.ID, p.Generation}] = time.Duration(p.Took)
		}
	}
	f.tell()
}

func (f *Fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	f.tell()
}

func (f *Fleet) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Placements lists the placements by intent and agent. The channel is closed
// when that is no longer the newest.
func (f *Fleet) Placements() (placements []Placement, changed <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.placements {
		placements = append(placements, p)
	}
	slices.SortFunc(placements, func(a, b Placement) int {
		return strings.Compare(a.Intent+" "+a.Agent, b.Intent+" "+b.Agent)
	})
	return placements, f.changed, f.err
}

// Took lists, shortest first, how long rotations took from request to proof.
func (f *Fleet) Took() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []time.Duration
	for _, took := range f.took {
		all = append(all, took)
	}
	slices.Sort(all)
	return all
}

// Await waits until the placements are as wanted. When they are not in time,
// the error says what was still missing, in the words that missing returned.
func (f *Fleet) Await(ctx context.Context, within time.Duration, missing func([]Placement) string) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		placements, changed, err := f.Placements()
		if err != nil {
			return err
		}
		what := missing(placements)
		if what == "" {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("not within %s: %s", within, what)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
