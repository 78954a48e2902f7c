package control

import (
	"context"
	"encoding/hex"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"crypto/sha256"

	"golang.org/x/sync/singleflight"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/ocsp"
)

// Anybody may ask for the status of a certificate, as often as he likes. So what
// was read of a certificate is kept, and with it the answer that was signed last;
// both are good until the store has changed, and then the record is read again.
// What has to be read or signed has lanes of its own, and who finds them full is
// told to come later: whoever asks for a certificate does not wait for those who
// ask about them.

// How long an answer is good for; it is signed afresh after half of that.
const answerLife = 12 * time.Hour

// OCSPAnswer is an answer to who asked for the status of certificates.
type OCSPAnswer struct {
	DER []byte
	// Of an answer that is the same for whoever asks; zero of the others, which
	// must not be kept by anybody.
	Digest    string // hex SHA-256
	This, Now time.Time
	Fresh     time.Duration // until there is another one
}

// answers is what OCSP keeps beside the store.
type answers struct {
	pulse      pulse
	responders sync.Map // authority id → *responding
	kept       keptAnswers
	flights    singleflight.Group
	reading    lane
	signing    lane
	latest     atomic.Int64 // the latest thisUpdate, seconds since 1970
	complained atomic.Int64 // when a failure was logged, seconds since 1970
}

func (a *answers) open() {
	a.reading.slots = make(chan struct{}, 2)
	a.signing.slots = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
}

// OCSP answers a request in DER about certificates of an authority. What can't be
// answered has an answer too: one that says so, and is not signed.
func (c *Control) OCSP(ctx context.Context, authorityID string, der []byte) OCSPAnswer {
	if c.CutOff() { // what was revoked since the last contact it can't know
		return OCSPAnswer{DER: ocsp.TryLater}
	}
	answer, err := c.answer(ctx, authorityID, der)
	if err == nil {
		return answer
	}
	switch fault.CodeOf(err) {
	case fault.Invalid:
		return OCSPAnswer{DER: ocsp.Malformed}
	case fault.NotFound, fault.Forbidden:
		return OCSPAnswer{DER: ocsp.Unauthorized}
	case fault.Unavailable:
		return OCSPAnswer{DER: ocsp.TryLater}
	}
	if ctx.Err() != nil {
		return OCSPAnswer{DER: ocsp.TryLater}
	}
	c.complain("answer about certificates", authorityID, err)
	return OCSPAnswer{DER: ocsp.Internal}
}

// complain logs a failure, one a minute: as many can be brought about as there
// are requests.
func (c *Control) complain(what, authorityID string, err error) {
	now, last := c.now().Unix(), c.answers.complained.Load()
	if now-last >= 60 && c.answers.complained.CompareAndSwap(last, now) {
		c.log.Error(what, "authority", printable(authorityID), "error", err)
	}
}

func (c *Control) answer(ctx context.Context, authorityID string, der []byte) (OCSPAnswer, error) {
	request, err := ocsp.ParseRequest(der)
	if err != nil {
		return OCSPAnswer{}, err
	}
	epoch, err := c.answers.pulse.look(ctx, c)
	if err != nil {
		return OCSPAnswer{}, err
	}
	by, err := c.responder(ctx, epoch, authorityID)
	if err != nil {
		return OCSPAnswer{}, err
	}
	if !by.answersFor(request) {
		return OCSPAnswer{}, fault.New(fault.Forbidden, "authority %s issued none of these certificates", by.authorityID)
	}
	if len(request.IDs) > 1 || request.Nonce != nil {
		return c.answerAlone(ctx, by, epoch, request)
	}
	return c.answerAlike(ctx, by, epoch, request.IDs[0])
}

// answerAlone signs for one who asks for himself.
func (c *Control) answerAlone(ctx context.Context, by *responder, epoch uint64, request ocsp.Request) (OCSPAnswer, error) {
	var singles []ocsp.Single
	for _, id := range request.IDs {
		kept, err := c.standingOf(ctx, by, epoch, id)
		if err != nil {
			return OCSPAnswer{}, err
		}
		singles = append(singles, kept.single)
	}
	signed, err := c.signAnswer(ctx, by, singles, request.Nonce)
	return OCSPAnswer{DER: signed.der}, err
}

// answerAlike gives what everybody gets: the answer that is kept, while it is
// young.
func (c *Control) answerAlike(ctx context.Context, by *responder, epoch uint64, id ocsp.CertID) (OCSPAnswer, error) {
	kept, err := c.standingOf(ctx, by, epoch, id)
	if err != nil {
		return OCSPAnswer{}, err
	}
	if kept.single.Status != ocsp.Unknown && kept.young(c.now()) {
		return kept.answer(c.now()), nil
	}
	signed, err, _ := c.answers.flights.Do("sign "+id.Key(), func() (any, error) {
		return c.signKept(context.WithoutCancel(ctx), by, id, kept)
	})
	if err != nil {
		if c.now().Before(kept.next) && kept.der != nil {
			return kept.answer(c.now()), nil // still good, and true
		}
		return OCSPAnswer{}, err
	}
	return signed.(keptAnswer).answer(c.now()), nil
}

// signKept signs an answer for everybody. That one was not issued here is told to
// who asks, and not kept: there is no end of such certificates.
func (c *Control) signKept(ctx context.Context, by *responder, id ocsp.CertID, kept keptAnswer) (keptAnswer, error) {
	if now, ok := c.answers.kept.find(id.Key()); ok && now.sameStanding(kept) && now.young(c.now()) {
		return now, nil // of a flight that has just landed
	}
	signed, err := c.signAnswer(ctx, by, []ocsp.Single{kept.single}, nil)
	if err != nil {
		return keptAnswer{}, err
	}
	kept.signedAnswer = signed
	if kept.single.Status == ocsp.Unknown {
		kept.signedAnswer = signedAnswer{der: signed.der}
		return kept, nil
	}
	sum := sha256.Sum256(signed.der)
	kept.digest = hex.EncodeToString(sum[:])
	c.answers.kept.put(id.Key(), kept)
	return kept, nil
}

// signAnswer signs what is said of some certificates from now on.
func (c *Control) signAnswer(ctx context.Context, by *responder, singles []ocsp.Single, nonce []byte) (signedAnswer, error) {
	leave, err := c.answers.signing.enter(ctx)
	if err != nil {
		return signedAnswer{}, err
	}
	defer leave()
	signed, err := c.datedAnswer(by, answerLife)
	if err != nil {
		return signedAnswer{}, err
	}
	for i := range singles {
		singles[i].This, singles[i].Next = signed.this, signed.next
	}
	signed.der, err = by.Sign(signed.this, singles, nonce)
	return signed, err
}

// datedAnswer dates an answer: never before one that was given, no longer than its
// signer is certified for, and not while this host's clock and the store's are apart.
func (c *Control) datedAnswer(by *responder, life time.Duration) (signedAnswer, error) {
	if err := c.db.InTime(); err != nil {
		return signedAnswer{}, err
	}
	for {
		latest := c.answers.latest.Load()
		this := max(c.now().Unix(), latest)
		if behind := time.Unix(this, 0).Sub(c.now()); behind > clockSlack {
			return signedAnswer{}, clockBehind(behind)
		}
		if !c.answers.latest.CompareAndSwap(latest, this) {
			continue
		}
		signed := signedAnswer{this: time.Unix(this, 0).UTC()}
		signed.next = signed.this.Add(life)
		if end := by.Certificate.NotAfter; signed.next.After(end) {
			signed.next = end
		}
		signed.refresh = signed.this.Add(signed.next.Sub(signed.this) / 2)
		return signed, nil
	}
}

// clockSlack is how far this host's clock may stand before what was signed or
// committed last.
const clockSlack = 5 * time.Second

func clockBehind(by time.Duration) error {
	return fault.New(fault.Unavailable, "this host's clock stands %s before what was signed or committed last", by).
		WithRemedy("set the clock right")
}

// reasonOf is the code of a reason by its name.
func reasonOf(name string) int { return ca.Reasons[name] }
