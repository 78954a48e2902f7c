package control

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// crlSlice is how many lists one transaction puts in place: what waits to be
// issued must not wait for a thousand of them.
const crlSlice = 16

// crlSlices is how many of them are signed at once: of the store's few readers
// some stay for others.
const crlSlices = 2

// PublishCRLs signs the lists that are due: what something was revoked of, or
// taken off hold, and what is old. It returns how many.
func (c *Control) PublishCRLs(ctx context.Context) (int, error) {
	if still, err := c.standsStill(ctx); err != nil || still {
		return 0, err
	}
	var authorities []string
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		all, err := tx.Authorities(ctx)
		for _, one := range all {
			if signsLists(one) {
				authorities = append(authorities, one.ID)
			}
		}
		return err
	})
	published := 0
	for _, id := range authorities {
		n, one := c.publishDue(ctx, id)
		published += n
		if one != nil && err == nil {
			err = one // the others go on
		}
	}
	if published > 0 {
		c.watchers.wakeEverybody() // hosts get them
	}
	return published, err
}

// signsLists says whether the authority's lists are signed here. One that was
// withdrawn has left its last.
func signsLists(one store.Authority) bool {
	return one.Kind == store.IssuingAuthority && one.CrossOf == "" && one.Origin == store.KeyHere && one.State != fleet.AuthorityWithdrawn
}

// publishDue signs the shards that are due, then the whole list made of them.
func (c *Control) publishDue(ctx context.Context, authorityID string) (int, error) {
	var shards []int
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		shards, err = dueShards(ctx, tx, authorityID)
		return err
	})
	if err != nil {
		return 0, err
	}
	published, err := c.publishShards(ctx, authorityID, shards)
	if err != nil {
		return published, err
	}
	due := false
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		due, err = wholeIsDue(ctx, tx, authorityID)
		return err
	})
	if err != nil || !due {
		return published, err
	}
	drafts, err := c.publish(ctx, authorityID, []int{ca.WholeList})
	return published + len(drafts), err
}

// publishShards signs the shards by slices, some at a time: to hash is most of the
// work, and after a pause all are due at once.
func (c *Control) publishShards(ctx context.Context, authorityID string, shards []int) (int, error) {
	var published atomic.Int64
	var group errgroup.Group
	group.SetLimit(crlSlices)
	for slice := range slices.Chunk(shards, crlSlice) {
		group.Go(func() error {
			drafts, err := c.publish(ctx, authorityID, slice)
			published.Add(int64(len(drafts)))
			return err
		})
	}
	err := group.Wait()
	return int(published.Load()), err
}

// publish signs lists outside of a transaction, so that nobody waits for it, and
// puts them in place in one. Where another server was first it returns none:
// there is nothing left to do.
func (c *Control) publish(ctx context.Context, authorityID string, shards []int) ([]draft, error) {
	var drafts []draft
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		drafts = nil
		by, err := c.signer(ctx, tx, authorityID)
		if err != nil {
			return err
		}
		for _, shard := range shards {
			one, err := c.draftCRL(ctx, tx, by, shard, time.Time{})
			if err != nil {
				return err
			}
			drafts = append(drafts, one)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = c.change(ctx, func(tx *store.Tx) error {
		for _, one := range drafts {
			if err := putDraft(ctx, tx, one); err != nil {
				return err
			}
		}
		return enterLists(ctx, tx, authorityID, drafts)
	})
	if fault.CodeOf(err) == fault.Conflict {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return drafts, nil
}

// enterLists records in the audit log which lists there are now, by their
// digests: so nobody can show another one of the same number unnoticed.
func enterLists(ctx context.Context, tx *store.Tx, authorityID string, drafts []draft) error {
	var lists []map[string]any
	for _, one := range drafts {
		lists = append(lists, map[string]any{
			"shard": one.Shard, "number": one.Number, "sha256": one.Digest.String(), "entries": one.Count,
			"nextUpdate": one.NextUpdate.Format(time.RFC3339),
		})
	}
	_, err := done(ctx, tx, Caller{Kind: Server}, "crl.publish", "Authority/"+authorityID, map[string]any{"lists": lists})
	return err
}

// dueShards are those without a list, with an old one, and with one that is
// behind.
func dueShards(ctx context.Context, tx *store.Tx, authorityID string) ([]int, error) {
	heads, err := tx.CRLHeads(ctx, authorityID)
	if err != nil {
		return nil, err
	}
	good := map[int]bool{}
	for _, head := range heads {
		good[head.Shard] = !isOld(head, tx.Now)
	}
	pending, err := tx.PendingShards(ctx)
	if err != nil {
		return nil, err
	}
	for _, one := range pending {
		if one.AuthorityID == authorityID {
			good[one.Shard] = false
		}
	}
	var due []int
	for shard := range ca.Shards {
		if !good[shard] {
			due = append(due, shard)
		}
	}
	return due, nil
}

func shardIsDue(ctx context.Context, tx *store.Tx, authorityID string, shard int) (bool, error) {
	if shard < 0 || shard >= ca.Shards {
		return false, nil
	}
	head, err := tx.CRLHead(ctx, authorityID, shard)
	if err != nil || isOld(head, tx.Now) {
		return fault.CodeOf(err) == fault.NotFound || err == nil, ignoreMissing(err)
	}
	pending, err := tx.PendingRevocations(ctx, store.PendingShard{AuthorityID: authorityID, Shard: shard})
	return len(pending) > 0, err
}

func ignoreMissing(err error) error {
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	return err
}

func isOld(head store.CRLHead, now time.Time) bool {
	return !now.Before(head.ThisUpdate.Add(fleet.CRLPeriod))
}

// A whole list of very many entries is not made anew at once: it is read by
// hosts as one file, and each new one goes to all of them.
const entriesASecond = 100_000

// wholeIsDue says whether the whole list is made of other lists than there are.
func wholeIsDue(ctx context.Context, tx *store.Tx, authorityID string) (bool, error) {
	heads, err := tx.CRLHeads(ctx, authorityID)
	if err != nil {
		return false, err
	}
	var whole store.CRLHead
	basis, shards := int64(0), 0
	for _, head := range heads {
		if head.Shard == ca.WholeList {
			whole = head
			continue
		}
		basis, shards = basis+head.Number, shards+1
	}
	rest := time.Duration(whole.Count/entriesASecond) * time.Second
	switch {
	case shards < ca.Shards || whole.Number == 0 || isOld(whole, tx.Now):
		return true, nil
	}
	return whole.Basis != basis && !tx.Now.Before(whole.ThisUpdate.Add(rest)), nil
}

// lastCRLs signs the lists of an authority whose key is about to go: they stand
// until the authority itself ends.
func (c *Control) lastCRLs(ctx context.Context, tx *store.Tx, authority store.Authority) error {
	by, err := c.signer(ctx, tx, authority.ID)
	if err != nil {
		return err
	}
	var drafts []draft
	for shard := range ca.Shards + 1 {
		if shard == ca.Shards {
			shard = ca.WholeList // made of the others, so the last
		}
		last, err := c.draftCRL(ctx, tx, by, shard, by.Certificate.NotAfter)
		if err != nil {
			return err
		}
		if err := putDraft(ctx, tx, last); err != nil {
			return err
		}
		drafts = append(drafts, last)
	}
	return enterLists(ctx, tx, authority.ID, drafts)
}

// CRLsBehind says whether something was revoked that no list has yet, or an
// authority has no lists. It is a look at tables that are small or empty.
func (c *Control) CRLsBehind(ctx context.Context) (bool, error) {
	behind := false
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		pending, err := tx.PendingShards(ctx)
		if err != nil {
			return err
		}
		bare, err := tx.WithoutLists(ctx)
		behind = len(pending) > 0 || bare > 0
		return err
	})
	return behind, err
}
