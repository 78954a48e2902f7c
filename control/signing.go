package control

import (
	"context"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// Of each region its own issuing authority signs. Where that can't be, another
// takes its place until it can again; store.SigningAuthority has the order. What the
// store knows (which are active, which an operator has stopped) is the same for all
// servers. What it does not is whether this server can sign by one: that is unable.

// unableFor is how long is kept what this server can't sign by: what it then finds
// out again is a key that can be opened once more, or a certificate that has ended.
const unableFor = 5 * time.Second

// unable are the active authorities by which this server can't sign, though nobody
// stopped them. Immutable.
type unable struct {
	ids   []string
	words map[string]string // by id: why
	until time.Time
	first error // of opening a key; nil: all can be opened
}

// unable is what this server can't sign by as of the transaction. Where it can sign
// by none those that have ended are left in, so that who asks is told of that.
func (c *Control) unable(ctx context.Context, tx *store.Tx) (*unable, error) {
	if kept := c.unables.Load(); kept != nil && tx.Now.Before(kept.until) {
		return kept, nil
	}
	found, err := c.findUnable(ctx, tx)
	if err == nil {
		c.unables.Store(found)
	}
	return found, err
}

func (c *Control) findUnable(ctx context.Context, tx *store.Tx) (*unable, error) {
	all, err := activeIssuing(ctx, tx)
	if err != nil {
		return nil, err
	}
	found := &unable{words: map[string]string{}, until: tx.Now.Add(unableFor)}
	var ended []store.Authority
	able := false
	for _, one := range all {
		by, err := c.signer(ctx, tx, one.ID)
		switch {
		case ctx.Err() != nil:
			return nil, err
		case err != nil:
			found.add(one.ID, "this server can't open its key: "+fault.Public(err))
			if found.first == nil {
				found.first = err
			}
		case hasEnded(by.Certificate.NotAfter, tx.Now):
			ended = append(ended, one)
			found.words[one.ID] = endedWords(by.Certificate.NotAfter, tx.Now)
		default:
			able = able || one.Stopped.At.IsZero()
		}
	}
	for _, one := range ended {
		if able {
			found.ids = append(found.ids, one.ID)
		}
	}
	return found, nil
}

func (u *unable) add(id, words string) {
	u.ids = append(u.ids, id)
	u.words[id] = words
}

// activeIssuing are the issuing authorities that sign, or would if nobody had
// stopped them.
func activeIssuing(ctx context.Context, tx *store.Tx) (active []store.Authority, err error) {
	all, err := tx.Authorities(ctx)
	for _, one := range all {
		if one.Kind == store.IssuingAuthority && one.State == fleet.AuthorityActive {
			active = append(active, one)
		}
	}
	return active, err
}

// issuerFor is the authority that signs for agents of a region now.
func (c *Control) issuerFor(ctx context.Context, tx *store.Tx, region string) (*signer, error) {
	out, err := c.unable(ctx, tx)
	if err != nil {
		return nil, err
	}
	id, err := tx.SigningAuthority(ctx, region, out.ids)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, noneSigns(out)
	}
	return c.signer(ctx, tx, id)
}

// noneSigns says why there is nobody to sign.
func noneSigns(out *unable) error {
	if out.first != nil {
		return out.first
	}
	return fault.New(fault.Internal, "the store has no active issuing authority").
		WithRemedy("it was not made by rotunda init, or is damaged: restore a backup")
}

// issuer is the authority that signs now what is of no region: identities of
// servers, agents and operators.
func (c *Control) issuer(ctx context.Context, tx *store.Tx) (*signer, error) {
	return c.issuerFor(ctx, tx, "")
}

// away says why an authority does not sign; empty: it does.
func (u *unable) away(one store.Authority) string {
	if stop := one.Stopped; !stop.At.IsZero() {
		return stopWords(stop)
	}
	return u.words[one.ID]
}

func stopWords(stop store.Stop) string {
	if stop.At.IsZero() {
		return ""
	}
	return fmt.Sprintf("stopped by %s at %s: %s", stop.By, stop.At.UTC().Format("2006-01-02 15:04"), stop.Why)
}

// homeOf is the name of the region's own authority, where another signs in its
// place; empty: it signs itself, or there is none of its own.
func homeOf(active []store.Authority, region, signs string) string {
	for _, one := range active {
		if region != "" && one.Region == region && one.ID != signs {
			return one.Name
		}
	}
	return ""
}

// awayWords say of each region whose own authority does not sign who does, and why.
func (c *Control) awayWords(ctx context.Context, tx *store.Tx) (words []string, err error) {
	out, err := c.unable(ctx, tx)
	if err != nil {
		return nil, err
	}
	active, err := activeIssuing(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, one := range active {
		why := out.away(one)
		if why == "" {
			continue
		}
		by, err := c.signerName(ctx, tx, active, one.Region)
		if err != nil {
			return nil, err
		}
		if by == one.Name {
			continue // it has ended, and there is no other: see issuerEnded
		}
		words = append(words, fmt.Sprintf("%s is served by authority %s: its own, %s, %s", regionWords(one.Region), by, one.Name, why))
	}
	return words, nil
}

func regionWords(region string) string {
	if region == "" {
		return "what is of no region"
	}
	return "region " + region
}

// signerName is the name of who signs for a region now.
func (c *Control) signerName(ctx context.Context, tx *store.Tx, active []store.Authority, region string) (string, error) {
	out, err := c.unable(ctx, tx)
	if err != nil {
		return "", err
	}
	id, err := tx.SigningAuthority(ctx, region, out.ids)
	for _, one := range active {
		if one.ID == id {
			return one.Name, err
		}
	}
	return "", err
}
