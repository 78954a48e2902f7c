package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// logWitness watches the audit log. It runs beside the stream: a server that
// is slow to prove its log does not hold up the desired state.
type logWitness struct {
	seen    *audit.Witness
	prove   func(ctx context.Context, from, to uint64) ([]audit.Hash, error)
	online  func() bool // whether a server is there to ask
	alarms  *alarms
	log     *slog.Logger
	now     func() time.Time
	pace    pace
	offered chan []byte // the newest checkpoint that is not looked at yet
}

// openWitness opens the witness of the log with this verifier key.
func openWitness(root *os.Root, logKey, origin string) (*audit.Witness, error) {
	verifier, err := note.NewVerifier(logKey)
	if err != nil {
		return nil, fault.Wrap(fault.Conflict, err, "key of the audit log")
	}
	w, err := audit.NewWitness(root, witnessFile, origin, verifier)
	if err != nil {
		return nil, fault.Wrap(fault.CodeOf(err), err, "memory of the audit log in %s", root.Name()).
			WithRemedy("or, once rotunda audit verify has passed, remove %s from the state directory and start the agent: its identity and placements stay", witnessFile)
	}
	return w, nil
}

// offer passes on a checkpoint; a newer one takes the place of one that waits.
func (w *logWitness) offer(checkpoint []byte) {
	if len(checkpoint) == 0 {
		return
	}
	for {
		select {
		case w.offered <- checkpoint:
			return
		default:
		}
		select {
		case <-w.offered:
		default:
		}
	}
}

func (w *logWitness) newest() []byte { return w.seen.Newest() }

// run takes checkpoints until ctx ends. The alarm of a fork is raised from the
// file that records it, so neither a restart nor the server silences it.
func (w *logWitness) run(ctx context.Context) error {
	if fork := w.seen.Fork(); fork != nil {
		w.alarms.set(alarmFork, fork.Error())
	}
	w.showTurns()
	var waiting []byte // a checkpoint whose proof could not be had
	var since time.Time
	failures := 0
	for {
		var retry <-chan time.Time
		var timer *time.Timer
		if waiting != nil {
			timer = time.NewTimer(w.pace.backoff.after(failures))
			retry = timer.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case waiting = <-w.offered:
		case <-retry:
		}
		if timer != nil {
			timer.Stop()
		}
		if w.advance(ctx, waiting) {
			waiting, since, failures = nil, time.Time{}, 0
			w.alarms.set(alarmUnproven, "")
			continue
		}
		failures++
		if !w.online() {
			since = time.Time{} // who is away can't prove anything
			continue
		}
		if since.IsZero() {
			since = w.now()
		}
		if unproven := w.now().Sub(since); unproven >= w.pace.unproven {
			w.alarms.set(alarmUnproven, fmt.Sprintf("audit log: since %s the server has not proven that it only grew", since.UTC().Format(time.RFC3339)))
		}
	}
}

// advance shows the witness a checkpoint; false means that it is worth another
// try.
func (w *logWitness) advance(ctx context.Context, checkpoint []byte) bool {
	err := w.seen.Advance(checkpoint, func(from, to uint64) ([]audit.Hash, error) {
		return w.prove(ctx, from, to)
	})
	if fork, ok := errors.AsType[*audit.ForkError](err); ok {
		if w.alarms.set(alarmFork, fork.Error()) {
			w.log.Error("AUDIT LOG FORKED", "reason", fork.Reason, "seen", string(fork.Seen), "conflict", string(fork.Conflict), "recorded", witnessFile+".fork")
		}
		return true
	}
	if err != nil && ctx.Err() == nil && w.online() {
		w.log.Warn("checkpoint of the audit log is not taken", "error", err)
	}
	return err == nil
}
