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
	demand  *demand // nil: nobody outside has to cosign
	prove   func(ctx context.Context, from, to uint64) ([]audit.Hash, error)
	online  func() bool   // whether a server is there to ask
	streams func() uint64 // opened so far
	alarms  *alarms
	log     *slog.Logger
	now     func() time.Time
	pace    pace
	offered chan checkpoints // the newest that are not looked at yet
}

// checkpoints are what one desired state shows of the audit log: the newest,
// and the newest that is cosigned. Either may be missing.
type checkpoints struct{ newest, cosigned []byte }

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

// offer passes on what was shown; what is newer takes the place of what waits.
func (w *logWitness) offer(shown checkpoints) {
	if len(shown.newest)+len(shown.cosigned) == 0 {
		return
	}
	for {
		select {
		case w.offered <- shown:
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
	var waiting *checkpoints // whose proof could not be had
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
		case shown := <-w.offered:
			waiting = &shown
		case <-retry:
		}
		if timer != nil {
			timer.Stop()
		}
		if w.advance(ctx, *waiting) {
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

// advance shows the witness what a server showed; false means that it is worth
// another try.
func (w *logWitness) advance(ctx context.Context, shown checkpoints) bool {
	if len(shown.newest) > 0 && !w.take(ctx, shown.newest) {
		return false
	}
	if w.demand == nil {
		return true
	}
	w.demand.show(w.seen.Size(), w.now())
	defer w.showCosigned()
	return w.takeCosigned(ctx, shown.cosigned)
}

// take shows the witness a checkpoint.
func (w *logWitness) take(ctx context.Context, checkpoint []byte) bool {
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

// takeCosigned counts who cosigned a checkpoint, once it is proven to be of the
// log that was shown: the same proof as of any other.
func (w *logWitness) takeCosigned(ctx context.Context, signed []byte) bool {
	cp, by, turns, err := w.demand.find(signed)
	if err != nil {
		w.log.Warn("a cosigned checkpoint of the audit log is not taken", "error", err)
	}
	if len(by) == 0 {
		return true
	}
	bare, err := audit.Bare(signed, w.demand.log)
	if err != nil {
		return true // find has read it
	}
	if !w.take(ctx, bare) {
		return false
	}
	if w.seen.Fork() == nil {
		w.demand.count(signed, cp.Size, by, turns)
	}
	return true
}

// watchCosigned looks every so often whether what is awaited is overdue, also
// while nothing comes from a server.
func (w *logWitness) watchCosigned(ctx context.Context) error {
	ticker := time.NewTicker(w.demand.within / 20)
	defer ticker.Stop()
	for {
		w.showCosigned()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// showCosigned raises the alarm of what is overdue, or clears it.
func (w *logWitness) showCosigned() {
	words, err := w.demand.look(w.now(), w.online(), w.streams(), w.seen.Size())
	if err != nil {
		w.log.Error("what is not cosigned can't be kept over a restart", "error", err)
	}
	if w.alarms.set(alarmCosigned, words) && words != "" {
		w.log.Error("AUDIT LOG NOT COSIGNED", "reason", words)
	}
}
