package control

import (
	"context"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// Which sessions are to be closed follows from the records of what was revoked
// and from the lists that hosts get. Commits are many and new lists are few, so
// the records are read again only when there is a new whole list or other
// documents, and not at all once all of a revocation is listed.

const (
	closingFor  = time.Hour // after a revocation is over
	closingMost = 1000      // certificates: of more there are no orders
)

// keptClosings is what was read of recent revocations, by their ids.
type keptClosings map[string]*readClosings

// readClosings is what one revocation's parts gave.
type readClosings struct {
	world  uint64 // state of the documents that it was read under
	ended  bool
	lists  []store.WholeList
	final  bool // nothing but other documents changes it
	listed map[pki.Serial]bool
	orders []closing
}

// closingsAt are the orders that stand: what of a recent revocation was used by
// clients and is on its list. It reads as little as kept allows, and keeps what
// it read; nil: nothing may be kept.
func (c *Control) closingsAt(ctx context.Context, tx *store.Tx, kept keptClosings) ([]closing, error) {
	recent, err := tx.RecentRevocations(ctx, tx.Now.Add(-closingFor))
	kept.forget(recent)
	if err != nil || len(recent) == 0 {
		return nil, err
	}
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return nil, err
	}
	lists, err := tx.WholeLists(ctx)
	if err != nil {
		return nil, err
	}
	var all []closing
	for _, revocation := range recent {
		before := kept[revocation.ID]
		if !before.stands(revocation, w, lists) {
			now, err := closingsOf(ctx, tx, w, revocation, lists, before)
			if err != nil {
				return nil, err
			}
			if kept != nil {
				kept[revocation.ID] = now
			}
			before = now
		}
		all = append(all, before.orders...)
	}
	return all, nil
}

// forget drops what is of no revocation that is recent.
func (k keptClosings) forget(recent []store.Revocation) {
	for id := range k {
		if !slices.ContainsFunc(recent, func(one store.Revocation) bool { return one.ID == id }) {
			delete(k, id)
		}
	}
}

// stands says whether reading again would give the same.
func (r *readClosings) stands(revocation store.Revocation, w *world, lists []store.WholeList) bool {
	return r != nil && r.world == w.state && (r.final || r.ended == !revocation.EndedAt.IsZero() && slices.Equal(r.lists, lists))
}

// closingsOf reads a revocation's parts. What was on its lists before stays
// there, whatever the lists are behind with now.
func closingsOf(ctx context.Context, tx *store.Tx, w *world, revocation store.Revocation, lists []store.WholeList, before *readClosings) (*readClosings, error) {
	read := &readClosings{world: w.state, ended: !revocation.EndedAt.IsZero(), lists: lists, listed: map[pki.Serial]bool{}}
	n, err := tx.RevocationSize(ctx, revocation.ID)
	if err != nil || n > closingMost {
		read.final = true
		return read, err
	}
	parts, err := tx.RevocationParts(ctx, revocation.ID)
	if err != nil {
		return nil, err
	}
	read.final = read.ended
	for _, record := range parts {
		read.final = read.final && !record.RevokedAt.IsZero() && record.Reason != store.OnHold // else more can come
		if record.RevokedAt.IsZero() || record.Reason == superseded {
			continue
		}
		if read.listed[record.Serial] = before != nil && before.listed[record.Serial]; !read.listed[record.Serial] {
			if read.listed[record.Serial], err = onEveryList(ctx, tx, record, lists); err != nil {
				return nil, err
			}
		}
		client, ok := w.clientOf(record)
		switch {
		case !read.listed[record.Serial]:
			read.final = false // it could come back with the same certificate
		case ok:
			if err := read.order(ctx, tx, revocation, client, record); err != nil {
				return nil, err
			}
		}
	}
	return read, nil
}

// order adds a certificate to the order about its service's clients.
func (r *readClosings) order(ctx context.Context, tx *store.Tx, revocation store.Revocation, client fleet.Name, record store.Certificate) error {
	authority, err := tx.Authority(ctx, record.AuthorityID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(r.orders, func(o closing) bool { return o.client == client })
	if i < 0 {
		i = len(r.orders)
		r.orders = append(r.orders, closing{revocation: revocation.ID, client: client})
	}
	one := &r.orders[i]
	one.serials = append(one.serials, record.Serial.String())
	if !slices.ContainsFunc(one.issuers, func(der []byte) bool { return slices.Equal(der, authority.Certificate) }) {
		one.issuers = append(one.issuers, authority.Certificate)
	}
	return nil
}

// onEveryList says whether a revoked certificate is on its shard's list and on
// the whole one, which is what hosts get. That it is on the whole one shows only
// where this is made of the shards' lists of now.
func onEveryList(ctx context.Context, tx *store.Tx, record store.Certificate, lists []store.WholeList) (bool, error) {
	whole := slices.ContainsFunc(lists, func(l store.WholeList) bool { return l.AuthorityID == record.AuthorityID && l.Complete })
	if !whole {
		return false, nil
	}
	return tx.IsListed(ctx, record.Serial)
}
