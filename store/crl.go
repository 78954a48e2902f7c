package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// CRLHead is a list of revoked certificates without its content.
type CRLHead struct {
	AuthorityID string
	Shard       int   // -1: all that the authority revoked
	Number      int64 // only grows
	Basis       int64 // of a whole list: the sum of the numbers of the shards that it was made of
	Digest      pki.Fingerprint
	ThisUpdate  time.Time
	NextUpdate  time.Time
	Count       int // of its entries
}

// CRL is the newest list of a shard: its DER is Head, the entries and Tail.
type CRL struct {
	CRLHead
	Head, Tail []byte
	EntryPart      // all entries
	Parts      int // in which they are stored
}

// DER is the list as it was signed.
func (c CRL) DER() []byte { return slices.Concat(c.Head, c.Entries, c.Tail) }

// EntryPart is some entries of a list, with the ends of their certificates; see
// ca.Entries.
type EntryPart struct {
	Ends    []byte
	Entries []byte
}

func (p *EntryPart) columns() []any { return []any{&p.Ends, &p.Entries} }

const crlHeadColumns = `authority_id, shard, number, basis, digest, this_update, next_update, entries`

func (h *CRLHead) columns() []any {
	return []any{&h.AuthorityID, &h.Shard, &h.Number, &h.Basis, fixed(h.Digest[:]), moment{&h.ThisUpdate}, moment{&h.NextUpdate}, &h.Count}
}

func (c *CRL) columns() []any { return append(c.CRLHead.columns(), &c.Head, &c.Tail) }

// shardOf is what a list is known by.
type shardOf struct {
	authority string
	shard     int
}

func (s shardOf) String() string { return fmt.Sprintf("%d of authority %s", s.shard, s.authority) }

// CRL returns the newest list of an authority's shard.
func (tx *Tx) CRL(ctx context.Context, authorityID string, shard int) (CRL, error) {
	found, err := one[CRL](ctx, tx, thing{"CRL", shardOf{authorityID, shard}}, `
		SELECT `+crlHeadColumns+`, head, tail FROM crl WHERE authority_id = $1 AND shard = $2`, authorityID, shard)
	if err != nil {
		return found, err
	}
	parts, err := list[EntryPart](ctx, tx, "entries of a CRL", `
		SELECT ends, entries FROM crl_entries WHERE authority_id = $1 AND shard = $2 ORDER BY part`, authorityID, shard)
	if found.Parts = len(parts); len(parts) == 1 {
		found.EntryPart = parts[0]
		return found, err
	}
	for _, part := range parts {
		found.Ends, found.Entries = append(found.Ends, part.Ends...), append(found.Entries, part.Entries...)
	}
	return found, err
}

// CRLHead returns what a list is, without reading it.
func (tx *Tx) CRLHead(ctx context.Context, authorityID string, shard int) (CRLHead, error) {
	return one[CRLHead](ctx, tx, thing{"CRL", shardOf{authorityID, shard}}, `
		SELECT `+crlHeadColumns+` FROM crl WHERE authority_id = $1 AND shard = $2`, authorityID, shard)
}

// CRLHeads returns all lists of an authority, by shard.
func (tx *Tx) CRLHeads(ctx context.Context, authorityID string) ([]CRLHead, error) {
	return list[CRLHead](ctx, tx, "CRLs", `
		SELECT `+crlHeadColumns+` FROM crl WHERE authority_id = $1 ORDER BY shard`, authorityID)
}

// WholeList is which whole list an authority has, and whether it is made of the
// shards' lists that there are now.
type WholeList struct {
	AuthorityID string
	Number      int64
	Complete    bool
}

func (w *WholeList) columns() []any { return []any{&w.AuthorityID, &w.Number, &w.Complete} }

// WholeLists returns the whole lists of all authorities.
func (tx *Tx) WholeLists(ctx context.Context) ([]WholeList, error) {
	return list[WholeList](ctx, tx, "whole CRLs", `
		SELECT w.authority_id, w.number, w.basis = (SELECT COALESCE(SUM(s.number), 0) FROM crl s WHERE s.authority_id = w.authority_id AND s.shard >= 0)
		FROM crl w WHERE w.shard = -1 ORDER BY w.authority_id`)
}

// EntryChange says how the entries of a list differ from those of the one before.
type EntryChange struct {
	All  bool // Part is all there are; else it is put behind those that there are
	Part EntryPart
}

// PutCRL puts a list in the place of the one whose number was before; 0: there
// was none. It is a compare-and-swap: of two servers one gets a Conflict, and
// no number and no thisUpdate ever goes back.
func (tx *Tx) PutCRL(ctx context.Context, c CRL, before int64, change EntryChange) error {
	what := thing{"CRL", shardOf{c.AuthorityID, c.Shard}}
	var err error
	if before == 0 {
		err = tx.insert(ctx, what, `
			INSERT INTO crl (`+crlHeadColumns+`, head, tail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			c.AuthorityID, c.Shard, c.Number, c.Basis, c.Digest[:], micros(c.ThisUpdate), micros(c.NextUpdate), c.Count, c.Head, c.Tail)
	} else {
		err = tx.swap(ctx, what, `
			UPDATE crl SET number = $3, basis = $4, digest = $5, this_update = $6, next_update = $7, entries = $8, head = $9, tail = $10
			WHERE authority_id = $1 AND shard = $2 AND number = $11 AND number < $3 AND this_update <= $6`,
			c.AuthorityID, c.Shard, c.Number, c.Basis, c.Digest[:], micros(c.ThisUpdate), micros(c.NextUpdate), c.Count, c.Head, c.Tail, before)
	}
	if err != nil {
		return err
	}
	return tx.changeEntries(ctx, what, c.CRLHead, change)
}

func (tx *Tx) changeEntries(ctx context.Context, what thing, c CRLHead, change EntryChange) error {
	if change.All {
		if _, err := tx.exec(ctx, `DELETE FROM crl_entries WHERE authority_id = $1 AND shard = $2`, c.AuthorityID, c.Shard); err != nil {
			return what.wrap(err)
		}
	}
	if len(change.Part.Entries) == 0 {
		return nil
	}
	return tx.insert(ctx, what, `
		INSERT INTO crl_entries (authority_id, shard, part, ends, entries)
		SELECT $1, $2, COALESCE(MAX(part), 0) + 1, $3, $4 FROM crl_entries WHERE authority_id = $1 AND shard = $2`,
		c.AuthorityID, c.Shard, change.Part.Ends, change.Part.Entries)
}

// PendingShard is a shard with something that its list does not say yet.
type PendingShard struct {
	AuthorityID string
	Shard       int
}

func (p *PendingShard) columns() []any { return []any{&p.AuthorityID, &p.Shard} }

// PendingShards returns the shards whose lists are behind and can be signed
// here: of the others a ceremony reads what is pending.
func (tx *Tx) PendingShards(ctx context.Context) ([]PendingShard, error) {
	return list[PendingShard](ctx, tx, "shards with pending revocations", `
		SELECT DISTINCT authority_id, shard FROM crl_pending
		WHERE authority_id IN (SELECT authority_id FROM authority_key) ORDER BY authority_id, shard`)
}

// WithoutLists says how many authorities whose key is here have no whole list
// yet.
func (tx *Tx) WithoutLists(ctx context.Context) (int64, error) {
	return value[int64](ctx, tx, thing{noun: "authorities without lists"}, `
		SELECT COUNT(*) FROM authority_key WHERE authority_id NOT IN (SELECT authority_id FROM crl WHERE shard = -1)`)
}

// PendingRevocation is what is to be put on a list, or taken off it.
type PendingRevocation struct {
	Serial    pki.Serial
	Lifted    bool
	RevokedAt time.Time // zero: it was lifted since
	Reason    string
	NotAfter  time.Time
}

func (p *PendingRevocation) columns() []any {
	return []any{fixed(p.Serial[:]), &p.Lifted, moment{&p.RevokedAt}, &p.Reason, moment{&p.NotAfter}}
}

// PendingRevocations returns what the shard's list does not say yet, in the
// order in which it happened.
func (tx *Tx) PendingRevocations(ctx context.Context, shard PendingShard) ([]PendingRevocation, error) {
	return list[PendingRevocation](ctx, tx, "pending revocations", `
		SELECT p.serial, p.lifted, c.revoked_at, c.reason, c.not_after
		FROM crl_pending p JOIN certificate c ON c.serial = p.serial
		WHERE p.authority_id = $1 AND p.shard = $2 ORDER BY c.revoked_at, p.serial`, shard.AuthorityID, shard.Shard)
}

// Listed says that a list has what was pending of these, as they were read.
func (tx *Tx) Listed(ctx context.Context, shard PendingShard, listed []PendingRevocation) error {
	for _, one := range listed {
		_, err := tx.exec(ctx, `DELETE FROM crl_pending WHERE authority_id = $1 AND shard = $2 AND serial = $3 AND lifted = $4`,
			shard.AuthorityID, shard.Shard, one.Serial[:], one.Lifted)
		if err != nil {
			return thing{"pending revocation", one.Serial}.wrap(err)
		}
	}
	return nil
}

// IsListed says whether a revoked certificate is on its list.
func (tx *Tx) IsListed(ctx context.Context, serial pki.Serial) (bool, error) {
	pending, err := value[int64](ctx, tx, thing{"pending revocation", serial}, `SELECT COUNT(*) FROM crl_pending WHERE serial = $1`, serial[:])
	return err == nil && pending == 0, err
}

// OnHold is the one reason that can be lifted (RFC 5280, section 5.3.1).
const OnHold = "certificateHold"

// RevokeCertificate marks a certificate as revoked now, and its list as behind.
// The first revocation stands, and another one is a Conflict; but what was on
// hold may be revoked for good.
func (tx *Tx) RevokeCertificate(ctx context.Context, serial pki.Serial, reason string) error {
	what := thing{"certificate", serial}
	rows, err := tx.exec(ctx, `
		UPDATE certificate SET revoked_at = $2, reason = $3
		WHERE serial = $1 AND (revoked_at IS NULL OR reason = $4 AND $3 <> $4)`, serial[:], micros(tx.Now), reason, OnHold)
	if err != nil {
		return what.wrap(err)
	}
	if rows == 0 {
		before, err := tx.Certificate(ctx, serial)
		if err != nil {
			return err
		}
		return fault.New(fault.Conflict, "%s was revoked already, at %s: %s", what, before.RevokedAt.Format(time.RFC3339), before.Reason)
	}
	return tx.pend(ctx, serial, false)
}

// LiftCertificate takes a certificate off hold. One that is not on hold is a
// Conflict: what is revoked for another reason stays so.
func (tx *Tx) LiftCertificate(ctx context.Context, serial pki.Serial) error {
	err := tx.swap(ctx, thing{"certificate on hold", serial}, `
		UPDATE certificate SET revoked_at = NULL, reason = '' WHERE serial = $1 AND revoked_at IS NOT NULL AND reason = $2`, serial[:], OnHold)
	if err != nil {
		return err
	}
	return tx.pend(ctx, serial, true)
}

func (tx *Tx) pend(ctx context.Context, serial pki.Serial, lifted bool) error {
	_, err := tx.exec(ctx, `
		INSERT INTO crl_pending (authority_id, shard, serial, lifted)
		SELECT authority_id, crl_shard, serial, $2 FROM certificate WHERE serial = $1
		ON CONFLICT (authority_id, shard, serial) DO UPDATE SET lifted = excluded.lifted`, serial[:], lifted)
	return thing{"pending revocation", serial}.wrap(err)
}

// RootListed says that a root's one list has all that was revoked below it.
func (tx *Tx) RootListed(ctx context.Context, rootID string) error {
	_, err := tx.exec(ctx, `DELETE FROM crl_pending WHERE authority_id = $1`, rootID)
	return thing{"pending revocations of", rootID}.wrap(err)
}

// RaiseCRL lets the next list of a shard pass the number of one that was
// published and that the store has forgotten, and makes it due.
func (tx *Tx) RaiseCRL(ctx context.Context, authorityID string, shard int, number int64) error {
	_, err := tx.exec(ctx, `
		UPDATE crl SET number = CASE WHEN number > $3 THEN number ELSE $3 END, this_update = 0
		WHERE authority_id = $1 AND shard = $2`, authorityID, shard, number)
	return thing{"CRL", shardOf{authorityID, shard}}.wrap(err)
}
