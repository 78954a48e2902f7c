package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rotation"
)

// Readiness says whether a process may be started with a placement's
// credential: it is on the host, in use, within its dates, and it passed the
// check, so that its declared peers accept it.
type Readiness struct {
	Intent    string    `json:"intent"`
	Instance  string    `json:"instance"`
	Ready     bool      `json:"ready"`
	Proven    bool      `json:"proven"` // a handshake with a running process showed it
	Reason    string    `json:"reason"` // in words, while it is not ready
	Directory string    `json:"directory,omitempty"`
	Serial    string    `json:"serial,omitempty"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
}

func (p *placement) readiness(w *wished, f rotation.Facts) *Readiness {
	if w.wish == nil {
		return &Readiness{Reason: w.err.Error()}
	}
	r := &Readiness{Intent: w.intent, Instance: w.instance, Directory: filepath.Join(w.files.directory, currentLink)}
	if w.bare {
		r.Directory = filepath.Join(p.record.Directory, currentLink)
	}
	v := p.record.Revision(f.Current)
	switch {
	case v == nil:
		r.Reason = "nothing is delivered yet"
		if p.record.Failure != nil {
			r.Reason += ": " + p.record.Failure.Reason
		}
		return r
	case f.Drift != "":
		r.Reason = "drift: " + f.Drift
		return r
	case !v.Checked:
		r.Reason = "it is not checked"
		return r
	case !w.bare && (v.Generation == 0) == w.desired.Identity:
		r.Reason = "only the bundle is delivered yet"
		return r
	}
	if g := p.record.Generation(v.Generation); g != nil && g.Leaf != nil {
		r.Serial, r.NotAfter = g.Leaf.Serial, g.Leaf.NotAfter
	}
	r.Ready = true
	r.Proven = f.Proven == v.Number && p.record.Level == api.Level_LEVEL_PROVEN
	return r
}

// Ready says how it stands with an intent's placement on this host. An empty
// instance stands for the only one.
func (e *Executor) Ready(intent, instance string) Readiness {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []*Readiness
	for _, p := range e.placements {
		r := p.ready.Load()
		if r != nil && r.Intent == intent && (instance == "" || r.Instance == instance) {
			found = append(found, r)
		}
	}
	none := Readiness{Intent: intent, Instance: instance}
	switch {
	case len(found) == 0:
		none.Reason = "the control plane wants no such placement of this host"
		return none
	case len(found) > 1:
		var names []string
		for _, r := range found {
			names = append(names, r.Instance)
		}
		slices.Sort(names)
		none.Reason = fmt.Sprintf("it has several instances here, name one of %q", names)
		return none
	}
	r := *found[0]
	if r.Ready && !r.NotAfter.IsZero() && !e.Now().Before(r.NotAfter) {
		r.Ready, r.Proven, r.Reason = false, false, "its certificate ran out at "+r.NotAfter.UTC().Format(time.RFC3339)
	}
	return r
}

// A question and its answers on the agent's socket are JSON, one a line. The
// agent answers at once and again at each change, until the asker hangs up.
type question struct {
	Intent   string `json:"intent"`
	Instance string `json:"instance"`
	Status   bool   `json:"status,omitempty"` // how the agent stands, once, in place of an intent
}

const maxQuestion = 4 << 10

// ServeReadiness answers on the agent's socket until ctx ends.
func (e *Executor) ServeReadiness(ctx context.Context, listener net.Listener) error {
	var answering sync.WaitGroup
	defer answering.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() }) // ends Accept
	defer stop()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("agent socket: %w", err)
		}
		answering.Go(func() {
			defer conn.Close()
			if err := e.answer(ctx, conn); err != nil {
				e.Log.Debug("question on the agent's socket", "error", err.Error())
			}
		})
	}
}

func (e *Executor) answer(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends reads and writes
	defer stop()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	var q question
	reader := bufio.NewReader(io.LimitReader(conn, maxQuestion))
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &q); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	go func() { // the asker says no more: this ends when he hangs up
		_, _ = reader.ReadByte()
		cancel()
	}()
	return e.tell(ctx, conn, q)
}

// tell answers now and at each change.
func (e *Executor) tell(ctx context.Context, conn net.Conn, q question) error {
	encoder := json.NewEncoder(conn)
	if q.Status && e.Status != nil {
		if err := conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		return encoder.Encode(e.Status())
	}
	var told Readiness
	for first := true; ; first = false {
		changed := e.next()
		r := e.Ready(q.Intent, q.Instance)
		if first || r != told {
			if err := conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			if err := encoder.Encode(r); err != nil {
				return err
			}
			told = r
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// AwaitReady asks the agent on this host, through its socket, and returns once
// the intent's credential is ready, or proven where that is asked for. Until
// then each answer goes to tell, which may be nil.
func AwaitReady(ctx context.Context, socket, intent, instance string, proven bool, tell func(Readiness)) (Readiness, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return Readiness{}, fault.Wrap(fault.Unavailable, err, "ask the agent on this host").
			WithRemedy("start rotunda agent, or name its socket with --socket")
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends the read
	defer stop()
	if err := json.NewEncoder(conn).Encode(question{Intent: intent, Instance: instance}); err != nil {
		return Readiness{}, fmt.Errorf("ask the agent: %w", err)
	}
	var last Readiness
	for decoder := json.NewDecoder(conn); ; {
		if err := decoder.Decode(&last); err != nil {
			return last, given(ctx, last, err)
		}
		if last.Ready && (last.Proven || !proven) {
			return last, nil
		}
		if tell != nil {
			tell(last)
		}
	}
}

// given says why waiting ended without the credential.
func given(ctx context.Context, last Readiness, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	reason := last.Reason
	if reason == "" {
		reason = "it is not proven yet"
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the agent stopped")
	}
	return fault.Wrap(fault.Unavailable, err, "intent %s has no usable credential on this host: %s", last.Intent, reason)
}
