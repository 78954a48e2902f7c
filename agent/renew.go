package agent

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// renewer renews the agent's own certificate after two thirds of its life.
type renewer struct{ *syncer }

// run waits until a renewal is due and a stream is open, renews, and goes on.
func (r renewer) run(ctx context.Context) error {
	failures := 0
	for {
		rest := r.due().Sub(r.now())
		if rest <= 0 {
			rest = r.attempt(ctx, &failures)
		}
		// At most an hour: the clock may be set meanwhile.
		if err := waitEither(ctx, min(rest, time.Hour), r.linked, r.wanted); err != nil {
			return err
		}
	}
}

// attempt renews once and returns how long to rest.
func (r renewer) attempt(ctx context.Context, failures *int) time.Duration {
	if r.clock.trouble() != "" {
		return r.pace.beat
	}
	if _, err := r.online(); err != nil {
		return time.Hour // a stream that opens wakes us
	}
	err := r.renewOnce(ctx)
	if err == nil {
		*failures = 0
		r.alarms.set(alarmIdentity, "")
		return r.pace.beat // whatever the server says is due
	}
	if ctx.Err() != nil {
		return 0
	}
	r.log.Warn("renewal of the agent's identity failed", "error", err)
	if fault.CodeOf(err) != fault.Unavailable {
		r.alarms.set(alarmIdentity, fmt.Sprintf("renewal of the agent's identity: %v", err))
	}
	rest := max(r.pace.renewBackoff.after(*failures), fault.AfterOf(err))
	*failures++
	return rest
}

// due is when the current identity is to be renewed: when the server says,
// unless the identity was obtained after that, or after two thirds of its life,
// a little later for some than for others.
func (r renewer) due() time.Time {
	identity := r.ids.current.Load()
	leaf := identity.Chain.Leaf
	if at := r.newest.Load().GetRenewIdentityAt(); at != nil {
		if t := at.AsTime(); t.After(identity.Obtained) && t.Before(leaf.NotAfter) {
			return t
		}
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	h := fnv.New32a()
	h.Write([]byte(identity.AgentID))
	return leaf.NotBefore.Add(life*2/3 + life/20*time.Duration(h.Sum32()%1000)/1000)
}

// renewOnce asks for a certificate for a new key, checks it as a server would,
// and makes it the current identity. The stream is then opened anew under it;
// the one before it stays until that has worked.
func (r renewer) renewOnce(ctx context.Context) error {
	link, err := r.online()
	if err != nil {
		return err
	}
	return r.renewBy(link, r.ids.current.Load(), func(csr []byte) (*api.RenewIdentityResponse, error) { return r.renew(ctx, csr) })
}

// renewBy has one call made, over the link.
func (r renewer) renewBy(link *link, old *Identity, ask func(csr []byte) (*api.RenewIdentityResponse, error)) error {
	// The label leaves a key behind that an interrupted renewal has put to
	// use already: it names the certificate that is to be replaced.
	key, err := r.ids.pendingKey(renewalFile, pki.FingerprintOf(old.Chain.Leaf.Raw).String())
	if err != nil {
		return err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return err
	}
	response, err := ask(csr)
	if err != nil {
		return err
	}
	next := *old
	next.Key, next.Obtained = key, r.now().UTC()
	if err := r.fill(&next, response, link); err != nil {
		return fmt.Errorf("check the renewed identity: %w", err)
	}
	if next.NotAfter().Before(old.NotAfter()) {
		return fault.New(fault.Conflict, "the renewed identity ends at %s, before the old one", next.NotAfter().Format(time.RFC3339))
	}
	if err := r.ids.replace(&next); err != nil {
		return err
	}
	r.log.Info("identity renewed", "until", next.NotAfter())
	return durable.Remove(r.ids.dir, renewalFile)
}

func (r renewer) fill(next *Identity, response *api.RenewIdentityResponse, link *link) error {
	var err error
	if next.Chain, err = pki.ParseChainDER(response.Chain); err != nil {
		return err
	}
	if next.Anchors, err = pki.ParseBundleDER(response.Anchors); err != nil {
		return err
	}
	if err := next.verify(r.now()); err != nil {
		return err
	}
	return trust{next.TrustDomain, anchored(next.Anchors), r.now}.verify(*link.peers.Load())
}

// waitEither is wait with two wakers.
func waitEither(ctx context.Context, d time.Duration, one, other <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-one:
	case <-other:
	case <-timer.C:
	}
	return nil
}
