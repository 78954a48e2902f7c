package control

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/ocsp"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// signedAnswer is an answer and its dates.
type signedAnswer struct {
	der                 []byte
	digest              string
	this, next, refresh time.Time
}

// keptAnswer is what is kept of one certificate: what its record said, as of
// which change of the store, and the answer that was signed last, if any. It is
// immutable.
type keptAnswer struct {
	signedAnswer
	single ocsp.Single
	epoch  uint64
	by     *responder
}

func (k keptAnswer) answer(now time.Time) OCSPAnswer {
	if k.single.Status == ocsp.Unknown {
		return OCSPAnswer{DER: k.der}
	}
	return OCSPAnswer{DER: k.der, Digest: k.digest, This: k.this, Now: now.UTC(), Fresh: max(0, k.refresh.Sub(now))}
}

func (k keptAnswer) young(now time.Time) bool { return k.der != nil && now.Before(k.refresh) }

func (k keptAnswer) sameStanding(other keptAnswer) bool {
	return k.single.Status == other.single.Status && k.single.Reason == other.single.Reason &&
		k.single.RevokedAt.Equal(other.single.RevokedAt) && k.by.sameKey(other.by)
}

// mostKept bounds what is kept: twice as many answers, of a thousand bytes each.
const mostKept = 1 << 13

// keptAnswers keeps what was asked for last. When the young are too many they
// become the old ones, and the old ones go; who is asked for becomes young.
type keptAnswers struct {
	mu         sync.Mutex
	young, old map[string]keptAnswer
}

func (k *keptAnswers) find(key string) (keptAnswer, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if found, ok := k.young[key]; ok {
		return found, true
	}
	found, ok := k.old[key]
	if ok {
		k.putLocked(key, found)
	}
	return found, ok
}

func (k *keptAnswers) put(key string, answer keptAnswer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before, ok := k.young[key]
	if !ok {
		before, ok = k.old[key]
	}
	switch {
	case ok && before.epoch > answer.epoch && (before.der != nil || !before.sameStanding(answer)):
		return // somebody knows more
	case ok && before.epoch > answer.epoch:
		before.signedAnswer = answer.signedAnswer
		answer = before
	case ok && answer.der == nil && before.sameStanding(answer):
		answer.signedAnswer = before.signedAnswer // signed since the record was read
	}
	k.putLocked(key, answer)
}

func (k *keptAnswers) putLocked(key string, answer keptAnswer) {
	if k.young == nil || len(k.young) >= mostKept {
		k.young, k.old = make(map[string]keptAnswer), k.young
	}
	k.young[key] = answer
}

// standingOf is what the certificate's record says, as of the epoch or later. An
// answer that was signed before stays with it while it says the same.
func (c *Control) standingOf(ctx context.Context, by *responder, epoch uint64, id ocsp.CertID) (keptAnswer, error) {
	kept, ok := c.answers.kept.find(id.Key())
	if ok && kept.epoch == epoch && kept.by.sameKey(by) {
		return kept, nil
	}
	serial, possible := id.Serial()
	if !possible || !by.issuer.Names(id) {
		return keptAnswer{single: ocsp.Single{ID: id, Status: ocsp.Unknown}, epoch: epoch, by: by}, nil
	}
	read, err, _ := c.answers.flights.Do(fmt.Sprintf("read %d %s %s", epoch, by.serial, id.Key()), func() (any, error) {
		return c.readStanding(context.WithoutCancel(ctx), by, epoch, id, serial)
	})
	if err != nil {
		return keptAnswer{}, err
	}
	now := read.(keptAnswer)
	if now.single.Status == ocsp.Unknown {
		return now, nil
	}
	if ok && now.sameStanding(kept) {
		now.signedAnswer = kept.signedAnswer
	}
	c.answers.kept.put(id.Key(), now)
	return now, nil
}

// readStanding reads the certificate's record.
func (c *Control) readStanding(ctx context.Context, by *responder, epoch uint64, id ocsp.CertID, serial pki.Serial) (keptAnswer, error) {
	now := keptAnswer{single: ocsp.Single{ID: id, Status: ocsp.Unknown}, epoch: epoch, by: by}
	leave, err := c.answers.reading.enter(ctx)
	if err != nil {
		return keptAnswer{}, err
	}
	defer leave()
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		record, err := tx.Certificate(ctx, serial)
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			return nil
		case err != nil:
			return err
		case record.AuthorityID != by.authorityID:
			return nil
		case record.RevokedAt.IsZero():
			now.single.Status = ocsp.Good
			return nil
		}
		now.single.Status, now.single.RevokedAt, now.single.Reason = ocsp.Revoked, record.RevokedAt, reasonOf(record.Reason)
		return nil
	})
	return now, err
}

// lookEvery is how long a change that another server made may go unnoticed.
const lookEvery = time.Second

// pulse counts the changes of the store, as far as they are known here: this
// server's at once, those of others within lookEvery.
type pulse struct {
	mu     sync.Mutex
	epoch  uint64
	commit uint64    // of this server, at the last look
	last   time.Time // commit in the store, at the last look
	looked time.Time
}

// look returns a number that grows with each change. A clock that stands before
// the newest commit is refused: what it would date could be older than what it
// says.
func (p *pulse) look(ctx context.Context, c *Control) (uint64, error) {
	now := c.now()
	p.mu.Lock() // the others wait for the one that reads
	defer p.mu.Unlock()
	commit, _ := c.db.Changed() // before the look: what comes meanwhile is looked at again
	if age := now.Sub(p.looked); p.epoch == 0 || commit != p.commit || age < 0 || age >= lookEvery {
		var last time.Time
		err := c.db.Read(ctx, func(tx *store.Tx) error {
			var err error
			last, err = tx.LastCommit(ctx)
			return err
		})
		if err != nil {
			return 0, err
		}
		if p.epoch == 0 || commit != p.commit || !last.Equal(p.last) {
			p.epoch++
		}
		p.commit, p.last, p.looked = commit, last, now
	}
	if behind := p.last.Sub(now); behind > clockSlack {
		return 0, clockBehind(behind)
	}
	return p.epoch, nil
}

// lane lets a few work at once and a few wait for a moment.
type lane struct {
	slots   chan struct{}
	waiting atomic.Int32
}

const (
	mostWaiting = 64
	waitAtMost  = 250 * time.Millisecond
)

// enter waits for a slot; the func that it returns gives it back.
func (l *lane) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-l.slots }
	select {
	case l.slots <- struct{}{}:
		return leave, nil
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > mostWaiting {
		return nil, errBusy
	}
	timer := time.NewTimer(waitAtMost)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
		return leave, nil
	case <-timer.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var errBusy = fault.New(fault.Unavailable, "too many ask about certificates at once").WithRemedy("ask again later, or without a nonce")
