package reconcile

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleet"
)

// Notices are looked at noticesAfter after something changed, and at least every
// noticesAtLeast: tries come due by themselves.
const (
	noticesAfter   = 100 * time.Millisecond
	noticesAtLeast = 2 * time.Second
)

// takenFor is for how long beyond its own time a post is this server's: then
// what came of it must have been recorded, or another posts it again.
const takenFor = 2 * time.Second

// Poster is how notices are posted.
type Poster struct {
	Client *http.Client
	Secret func() ([]byte, error) // that they are signed with
	Within time.Duration          // how long one may take
	Tries  int                    // how often each is tried
	Pause  func(tries int) time.Duration
}

// What a server posts by: fifteen tries take about five hours.
const (
	postWithin   = 10 * time.Second
	mostTries    = 15
	firstPause   = 5 * time.Second
	longestPause = 30 * time.Minute
)

// NewPoster returns a Poster that follows no redirect and verifies
// certificates: where a notice goes is where the document says.
func NewPoster(secret func() ([]byte, error)) *Poster {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &Poster{
		Client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Secret: secret, Within: postWithin, Tries: mostTries, Pause: pause,
	}
}

// pause doubles from try to try, and half of it is chance: owners whose
// receiver comes back are not all told in one moment.
func pause(tries int) time.Duration {
	most := min(firstPause<<min(tries-1, 20), longestPause)
	return most/2 + rand.N(most/2)
}

// Notices posts what owners are to be told until ctx ends. Nothing else waits
// for it. One failed pass is logged, and tried again.
func Notices(ctx context.Context, c *control.Control, p *Poster, log *slog.Logger) error {
	for {
		_, next := c.Changed()
		posted, err := p.Pass(ctx, c, log)
		if err != nil && ctx.Err() == nil {
			log.Error("post the notices", "error", err)
		}
		if posted > 0 && ctx.Err() == nil {
			continue // others may have waited for these
		}
		if !sleep(ctx, next, noticesAtLeast) || !sleep(ctx, nil, noticesAfter) {
			return ctx.Err()
		}
	}
}

// Pass posts the notices that are due, all at once, and records what came of
// each. It returns how many there were.
func (p *Poster) Pass(ctx context.Context, c *control.Control, log *slog.Logger) (int, error) {
	posts, err := c.TakeNotices(ctx, p.Within+takenFor)
	if err != nil {
		return 0, err
	}
	var group sync.WaitGroup
	for _, post := range posts {
		group.Go(func() {
			why := p.post(ctx, post)
			if ctx.Err() != nil && why != "" {
				return // the server stops: that is no answer
			}
			if err := p.record(ctx, c, post, why); err != nil && ctx.Err() == nil {
				log.Error("record what came of a notice", "notice", post.ID, "service", post.Service, "error", err)
			}
		})
	}
	group.Wait()
	return len(posts), nil
}

// record says what came of a post. A stop of the server does not keep it from
// saying that one was taken.
func (p *Poster) record(ctx context.Context, c *control.Control, post control.Post, why string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.Within)
	defer cancel()
	switch {
	case why == "":
		return c.NoticeSent(ctx, post)
	case post.Tries >= p.Tries:
		return c.NoticeGivenUp(ctx, post, why)
	}
	return c.NoticeFailed(ctx, post, why, p.Pause(post.Tries))
}

// post posts a notice, signed. It returns why it was not taken; empty: it was.
func (p *Poster) post(ctx context.Context, post control.Post) (why string) {
	if err := fleet.CheckNotifyURL(post.URL); err != nil {
		return err.Error()
	}
	secret, err := p.Secret()
	if err != nil {
		return err.Error()
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(post.Body)
	ctx, cancel := context.WithTimeout(ctx, p.Within)
	defer cancel()
	status, words, err := postJSON(ctx, p.Client, post.URL, post.Body, map[string]string{
		"Idempotency-Key":   post.ID,
		"Rotunda-Signature": "sha256=" + hex.EncodeToString(mac.Sum(nil)),
	})
	switch {
	case err != nil:
		return err.Error()
	case status/100 == 3:
		return fmt.Sprintf("it answers %d: redirects are not followed", status)
	case status/100 != 2:
		return fmt.Sprintf("it answers %d: %s", status, words)
	}
	return ""
}
