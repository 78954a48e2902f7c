package control

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// A list of revoked certificates is kept in the store as it was signed, with its
// number. A revocation commits with a note that a list is behind; whoever sees
// the note signs the list anew from the old one's entries, and puts it in the
// place of exactly the one that it was made from. So a crash leaves the old list
// and the note, two servers make one new list, and no number and no thisUpdate
// goes back.

// draft is a list that was signed and is nowhere yet.
type draft struct {
	store.CRL
	before int64 // number of the list that it takes the place of; 0: there is none
	change store.EntryChange
	lists  []store.PendingRevocation
}

// draftCRL signs what the shard's next list is to say. A zero next is when lists
// end as ever.
func (c *Control) draftCRL(ctx context.Context, tx *store.Tx, by *signer, shard int, next time.Time) (draft, error) {
	previous, err := tx.CRL(ctx, by.ID, shard)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return draft{}, err
	}
	d := draft{before: previous.Number}
	var entries *ca.Entries
	if shard == ca.WholeList {
		entries, d.Basis, err = wholeEntries(ctx, tx, by.ID)
		d.change = store.EntryChange{All: true}
	} else {
		entries, err = d.shardEntries(ctx, tx, previous, shard, by.ID)
	}
	if err != nil {
		return draft{}, err
	}
	if d.change.All {
		d.change.Part = store.EntryPart{Ends: entries.Ends(), Entries: entries.DER()}
	}
	terms := termsAfter(previous.CRLHead, tx.Now, next)
	signed, err := by.SignCRL(shard, terms, entries)
	if err != nil {
		return draft{}, err
	}
	d.CRL = store.CRL{
		CRLHead: store.CRLHead{
			AuthorityID: by.ID, Shard: shard, Number: terms.Number, Basis: d.Basis, Digest: signed.Fingerprint(),
			ThisUpdate: terms.This, NextUpdate: terms.Next, Count: entries.Len(),
		},
		Head: signed.Head, Tail: signed.Tail, EntryPart: store.EntryPart{Ends: entries.Ends(), Entries: entries.DER()},
	}
	return d, nil
}

// mostParts is in how many parts the entries of a list are stored before they
// are put together.
const mostParts = 32

// termsAfter number and date the list after a previous one. The number grows
// with the time too: so it grows beyond what an older copy of the store knows of.
func termsAfter(previous store.CRLHead, now, next time.Time) ca.CRLTerms {
	terms := ca.CRLTerms{Number: max(previous.Number+1, now.UnixMilli()), This: now.UTC().Truncate(time.Second), Next: next}
	if terms.This.Before(previous.ThisUpdate) {
		terms.This = previous.ThisUpdate
	}
	if next.IsZero() {
		// The lifetime of a CRL counts its last second (RFC 5280 is silent,
		// CA/Browser Forum's lints are not).
		terms.Next = terms.This.Add(fleet.CRLLife - time.Second)
	}
	return terms
}

// shardEntries are those of the previous list with what is pending. What ended
// before the previous list has stood on one beyond its end, and goes.
func (d *draft) shardEntries(ctx context.Context, tx *store.Tx, previous store.CRL, shard int, authorityID string) (*ca.Entries, error) {
	entries, err := ca.ReadEntries(shard, previous.Entries, previous.Ends)
	if err != nil {
		return nil, err
	}
	before := entries.Len()
	entries.DropEnded(previous.ThisUpdate)
	d.lists, err = tx.PendingRevocations(ctx, store.PendingShard{AuthorityID: authorityID, Shard: shard})
	if err != nil {
		return nil, err
	}
	var pending []pki.Serial
	for _, one := range d.lists {
		pending = append(pending, one.Serial)
	}
	if len(pending) > 0 {
		entries.Remove(pending...) // what was on hold may stand there
	}
	d.change.All = entries.Len() != before || previous.Parts >= mostParts
	ends, der := len(entries.Ends()), len(entries.DER())
	for _, one := range d.lists {
		if one.RevokedAt.IsZero() {
			continue // it was lifted
		}
		err := entries.Add(ca.Revocation{Serial: one.Serial, At: one.RevokedAt, Reason: one.Reason, Ends: one.NotAfter})
		if err != nil {
			return nil, err
		}
	}
	d.change.Part = store.EntryPart{Ends: entries.Ends()[ends:], Entries: entries.DER()[der:]}
	return entries, nil
}

// wholeEntries are those of all shards, with the sum of their numbers.
func wholeEntries(ctx context.Context, tx *store.Tx, authorityID string) (*ca.Entries, int64, error) {
	entries, basis := ca.NewEntries(ca.WholeList), int64(0)
	for shard := range ca.Shards {
		list, err := tx.CRL(ctx, authorityID, shard)
		if err != nil {
			return nil, 0, err
		}
		one, err := ca.ReadEntries(shard, list.Entries, list.Ends)
		if err != nil {
			return nil, 0, err
		}
		entries.Append(one)
		basis += list.Number
	}
	return entries, basis, nil
}

// putDraft makes a draft the list of its shard.
func putDraft(ctx context.Context, tx *store.Tx, d draft) error {
	if err := tx.PutCRL(ctx, d.CRL, d.before, d.change); err != nil {
		return err
	}
	return tx.Listed(ctx, store.PendingShard{AuthorityID: d.AuthorityID, Shard: d.Shard}, d.lists)
}

// CRL returns the authority's newest list of a shard: at every URL that a
// certificate of ours names there is one. Of a root, whose key is away, it is
// the one list that a ceremony left. A list that is due is signed first; where
// that fails, the one that is there is still good.
func (c *Control) CRL(ctx context.Context, authorityID string, shard int) (store.CRL, error) {
	var failed error
	for range crlTries {
		list, due, err := c.storedCRL(ctx, authorityID, shard)
		if !due {
			return list, missingCRL(err, authorityID, shard)
		}
		var signed *store.CRL
		if signed, failed = c.publishNow(ctx, authorityID, shard); failed != nil {
			break
		}
		if signed != nil {
			return *signed, nil
		}
		// Another was first, perhaps with a list that he read before what is due
		// now.
	}
	var list store.CRL
	err := c.db.Read(ctx, func(tx *store.Tx) error { // the old one has to do
		var err error
		list, err = tx.CRL(ctx, authorityID, shard)
		return err
	})
	if failed != nil && err != nil {
		return list, failed
	}
	return list, missingCRL(err, authorityID, shard)
}

// crlTries bounds how often a list is asked for that others keep replacing.
const crlTries = 5

func missingCRL(err error, authorityID string, shard int) error {
	if fault.CodeOf(err) == fault.NotFound {
		return fault.New(fault.NotFound, "authority %s has no CRL %d", printable(authorityID), shard)
	}
	return err
}

// storedCRL is a list as it was signed, unless one is due that the store has not.
func (c *Control) storedCRL(ctx context.Context, authorityID string, shard int) (list store.CRL, due bool, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		authority, err := tx.Authority(ctx, authorityID)
		if err != nil {
			return err
		}
		switch {
		case authority.Kind == store.RootAuthority:
			list, err = tx.CRL(ctx, authorityID, ca.WholeList)
			return err
		case shard == ca.WholeList:
			due, err = wholeIsDue(ctx, tx, authorityID)
		default:
			due, err = shardIsDue(ctx, tx, authorityID, shard)
		}
		if due = due && signsLists(authority); due || err != nil {
			return err
		}
		list, err = tx.CRL(ctx, authorityID, shard)
		return err
	})
	return list, due, err
}

// publishNow signs the one list, or with the whole one all that it is made of. It
// returns nil where another server was first.
func (c *Control) publishNow(ctx context.Context, authorityID string, shard int) (*store.CRL, error) {
	if shard == ca.WholeList {
		_, err := c.publishDue(ctx, authorityID)
		return nil, err
	}
	drafts, err := c.publish(ctx, authorityID, []int{shard})
	if err != nil || len(drafts) == 0 {
		return nil, err
	}
	return &drafts[0].CRL, nil
}

// CRLHeads says which lists an authority has.
func (c *Control) CRLHeads(ctx context.Context, authorityID string) (heads []store.CRLHead, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		if _, err := tx.Authority(ctx, authorityID); err != nil {
			return err
		}
		heads, err = tx.CRLHeads(ctx, authorityID)
		return err
	})
	return heads, err
}
