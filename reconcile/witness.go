package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/witness"
)

// What witnesses are asked by. All are asked for one checkpoint, or there would
// never be one that enough of them have cosigned: it stays the one for
// roundAtMost, and at least for roundAtLeast. A lease outlives a call by far
// enough to record what came of it.
const (
	roundAtLeast  = time.Second
	roundAtMost   = 15 * time.Second
	witnessWithin = 10 * time.Second
	witnessLease  = 30 * time.Second
	mostSizes     = 4 // that a witness may name, one after the other, in one try
)

// Witnessing asks the witnesses of the audit log. One goroutine decides who is
// asked for what; each call has its own, so that none waits for another.
type Witnessing struct {
	Holder string        // of the lease; a process's own
	Within time.Duration // how long one try may take
	Wait   func(failures int) time.Duration
	Now    func() time.Time

	control *control.Control
	log     *slog.Logger
	peers   []*asked
	results chan result
	lease   store.Lease
	size    uint64    // of the checkpoint that all are asked for
	since   time.Time // it is
}

// asked is how one witness stands.
type asked struct {
	client   *witness.Client
	calling  bool
	cosigned uint64    // the greatest size that it cosigned for this process
	failures int       // one after the other
	after    time.Time // not asked again before
}

type result struct {
	peer *asked
	size uint64 // that was cosigned
	err  error
}

// NewWitnessing returns what asks the witnesses that the server's rotunda.yaml
// names.
func NewWitnessing(c *control.Control, holder string, log *slog.Logger) (*Witnessing, error) {
	w := &Witnessing{Holder: holder, Within: witnessWithin, Wait: wait, Now: time.Now, control: c, log: log}
	for _, peer := range c.Witnesses().Ask {
		client, err := witness.NewClient(peer, func() time.Time { return w.Now() })
		if err != nil {
			return nil, err
		}
		w.peers = append(w.peers, &asked{client: client})
	}
	w.results = make(chan result, len(w.peers))
	return w, nil
}

// Witness asks the witnesses of the audit log until ctx ends.
func Witness(ctx context.Context, c *control.Control, log *slog.Logger) error {
	w, err := NewWitnessing(c, uuid.NewString(), log)
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// Run asks until ctx ends.
func (w *Witnessing) Run(ctx context.Context) error {
	if len(w.peers) == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	defer w.stop()
	for {
		_, changed := w.control.Changed()
		pause, err := w.Pass(ctx)
		if fault.CodeOf(err) == fault.Conflict { // another server asks
			changed = nil
		} else if err != nil && ctx.Err() == nil {
			w.log.Error("ask the witnesses of the audit log", "error", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case r := <-w.results:
			w.take(r)
		case <-changed:
			sleep(ctx, nil, forwardAfter)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// stop waits for the calls under way, whose context has ended, and lets another
// server go on at once.
func (w *Witnessing) stop() {
	for _, peer := range w.peers {
		for peer.calling {
			w.take(<-w.results)
		}
		peer.client.Close()
	}
	if w.lease.Holder == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releasedWithin)
	defer cancel()
	if err := w.control.ReleaseWitnesses(ctx, w.lease); err != nil {
		w.log.Warn("release the lease of the witnesses", "error", err)
	}
}

// Pass begins to ask those that are due, and says for how long there is nothing
// more to do unless something changes.
func (w *Witnessing) Pass(ctx context.Context) (pause time.Duration, err error) {
	if words, err := w.control.RolledBack(ctx); err != nil || words != "" {
		return forwardAtLeast, err
	}
	newest, err := w.control.NewestSize(ctx)
	if err != nil {
		return forwardAtLeast, err
	}
	now := w.Now()
	if now.Sub(w.since) >= roundAtMost || now.Sub(w.since) >= roundAtLeast && w.roundDone() {
		if newest != w.size {
			w.size, w.since = newest, now
		}
	}
	var due []*asked
	pause = forwardAtLeast
	for _, peer := range w.peers {
		switch {
		case peer.calling || peer.cosigned >= w.size:
		case now.Before(peer.after):
			pause = min(pause, peer.after.Sub(now))
		default:
			due = append(due, peer)
		}
	}
	if newest > w.size {
		pause = min(pause, max(roundAtLeast-now.Sub(w.since), 0)+forwardAfter)
	}
	if len(due) == 0 {
		return pause, nil
	}
	return pause, w.ask(ctx, due)
}

// roundDone says whether all that can be had for this checkpoint is there: from
// all that answer at all.
func (w *Witnessing) roundDone() bool {
	for _, peer := range w.peers {
		if peer.cosigned < w.size && peer.failures == 0 {
			return false
		}
	}
	return true
}

func (w *Witnessing) ask(ctx context.Context, due []*asked) (err error) {
	if err := w.control.DeclareWitnesses(ctx); err != nil {
		return err
	}
	if w.lease, err = w.control.LeaseWitnesses(ctx, w.Holder, witnessLease); err != nil {
		w.lease = store.Lease{}
		return err
	}
	for _, peer := range due {
		peer.calling = true
		lease, size := w.lease, w.size
		go func() {
			size, err := w.try(ctx, lease, peer.client, size)
			w.results <- result{peer, size, err}
		}()
	}
	return nil
}

// take notes what came of a call.
func (w *Witnessing) take(r result) {
	r.peer.calling = false
	if r.err == nil {
		if r.peer.failures > 0 {
			w.log.Info("a witness cosigns the audit log again", "witness", r.peer.client.Name)
		}
		r.peer.cosigned, r.peer.failures, r.peer.after = max(r.peer.cosigned, r.size), 0, time.Time{}
		return
	}
	if r.peer.failures++; r.peer.failures == 1 {
		w.log.Warn("a witness does not cosign the audit log; asking again", "witness", r.peer.client.Name, "error", r.err)
	}
	r.peer.after = w.Now().Add(w.Wait(r.peer.failures))
}

// try asks one witness once, and records what came of it. The size is that of
// the checkpoint that it cosigned.
func (w *Witnessing) try(ctx context.Context, lease store.Lease, client *witness.Client, size uint64) (uint64, error) {
	asking, cancel := context.WithTimeout(ctx, w.Within)
	defer cancel()
	known, err := w.control.KnownWitness(ctx, client.Name)
	if err != nil {
		return 0, err
	}
	to, line, said, err := w.converse(asking, client, known.Size, size)
	if said.Says != "" && ctx.Err() == nil {
		said.Shown, said.At = w.shown(ctx, client)
		if recorded := w.control.WitnessContradicts(ctx, lease, client.Name, said); recorded != nil {
			return 0, recorded
		}
	}
	switch {
	case err == nil:
		return to, w.control.WitnessCosigned(ctx, lease, client.Peer, to, line)
	case ctx.Err() != nil:
		return 0, err // the server stops: that says nothing of the witness
	case said.Says != "":
		return 0, err // recorded with the alarm
	}
	return 0, errors.Join(err, w.control.WitnessFailed(ctx, lease, client.Name, err.Error()))
}

// converse sends the checkpoint with a proof from the size that the witness has,
// as far as that is known, and from the one that it names instead. said is what
// in its answers contradicts the log, or what it cosigned before.
func (w *Witnessing) converse(ctx context.Context, client *witness.Client, old, size uint64) (to uint64, line audit.Cosignature, said control.Contradiction, err error) {
	cosigned := old
	for range mostSizes {
		var request audit.AddCheckpoint
		request, to, err = w.control.WitnessRequest(ctx, old, size)
		if fault.CodeOf(err) == fault.Conflict {
			said.Says = err.Error()
		}
		if err != nil {
			return 0, line, said, err
		}
		line, err = client.Add(ctx, request)
		other, isOther := errors.AsType[*witness.OtherSizeError](err)
		_, differs := errors.AsType[*witness.InconsistentError](err)
		switch {
		case isOther && other.Size == old && old == to:
			said.Says = err.Error() + ", as there are here, and they are others"
			return 0, line, said, err
		case differs:
			said.Says = err.Error()
			return 0, line, said, err
		case !isOther:
			return to, line, said, err
		}
		if other.Size < cosigned {
			said.Says = err.Error() + ", and cosigned more before: it has forgotten, and could be shown a fork"
		}
		old = other.Size
	}
	return 0, line, said, fault.New(fault.Unavailable, "it names another size each time")
}

// shown is what a witness that contradicts the log shows for it.
func (w *Witnessing) shown(ctx context.Context, client *witness.Client) ([]byte, time.Time) {
	ctx, cancel := context.WithTimeout(ctx, w.Within)
	defer cancel()
	signed, _, at, err := client.Newest(ctx, w.control.LogVerifier())
	if err != nil {
		w.log.Warn("a witness that contradicts the audit log shows nothing that the log's key signed", "witness", client.Name, "error", err)
		return nil, time.Time{}
	}
	return signed, at
}
