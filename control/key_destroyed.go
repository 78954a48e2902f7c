package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// That a key is gone is an entry of its own, with what shows which key it was and
// what is left of it. It says that nothing here has the key any more; not that no
// copy was made, nor that the bytes are gone from where they lay.
const (
	verbAuthorityKeyGone = "authority.key-destroyed"
	verbPlacementKeyGone = "placement.key-destroyed"
)

// destroyAuthorityKey takes an authority's key out of the store. The entry has
// the key's SPKI, the digest of the sealed key as it stood there (what a copy of
// the store has can be held against it), what it signed that is still live, and
// the last whole list. A foreign or offline authority has no key here.
func destroyAuthorityKey(ctx context.Context, tx *store.Tx, caller Caller, authority store.Authority, by string) error {
	key, err := tx.AuthorityKey(ctx, authority.ID)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	certificate, err := certificateOf(authority)
	if err != nil {
		return err
	}
	spki, err := pki.SPKIHashOf(certificate.PublicKey)
	if err != nil {
		return err
	}
	sealed := sha256.Sum256(key.Sealed)
	detail := map[string]any{
		"name": authority.Name, "spki": spki.String(), "fingerprint": pki.FingerprintOf(authority.Certificate).String(),
		"kek": key.KEKID, "sealedSha256": hex.EncodeToString(sealed[:]), "by": by,
	}
	if err := leftOf(ctx, tx, authority, detail); err != nil {
		return err
	}
	if err := tx.DeleteAuthorityKey(ctx, authority.ID); err != nil {
		return err
	}
	_, err = done(ctx, tx, caller, verbAuthorityKeyGone, "Authority/"+authority.ID, detail)
	return err
}

// leftOf says what of an authority outlives its key.
func leftOf(ctx context.Context, tx *store.Tx, authority store.Authority, detail map[string]any) error {
	live, err := tx.LiveCertificates(ctx, tx.Now)
	if err != nil {
		return err
	}
	count, last := uint64(0), time.Time{}
	for _, one := range live {
		if one.AuthorityID == authority.ID {
			count += one.Count
			if one.Last.After(last) {
				last = one.Last
			}
		}
	}
	if detail["live"] = count; count > 0 {
		detail["lastNotAfter"] = last.Format(time.RFC3339)
	}
	list, err := tx.CRLHead(ctx, authority.ID, ca.WholeList)
	if err == nil {
		detail["lastCRL"] = map[string]any{
			"number": list.Number, "sha256": list.Digest.String(), "entries": list.Count, "nextUpdate": list.NextUpdate.Format(time.RFC3339),
		}
	}
	return ignoreMissing(err)
}

// auditDestroyed enters which keys of earlier generations an agent says that it
// has destroyed, once each. Of a generation that was never issued, or is the one
// in use, that is no news.
func auditDestroyed(ctx context.Context, tx *store.Tx, caller Caller, n news) error {
	told := map[uint64]bool{}
	for _, one := range n.before.GetDestroyed() {
		told[one.Generation] = true
	}
	for _, one := range n.after.Destroyed {
		if inUse := n.after.Generation; told[one.Generation] || inUse > 0 && one.Generation >= inUse {
			continue
		}
		record, err := tx.PlacementCertificate(ctx, n.placement.ID, one.Generation)
		if fault.CodeOf(err) == fault.NotFound {
			continue
		}
		if err != nil {
			return err
		}
		now, err := tx.PlacementCertificate(ctx, n.placement.ID, n.after.Generation)
		if ignoreMissing(err) != nil {
			return err
		}
		_, err = done(ctx, tx, caller, verbPlacementKeyGone, "Placement/"+n.placement.ID, map[string]any{
			"intent": n.placement.Intent, "generation": one.Generation, "serial": record.Serial.String(), "spki": record.SPKI.String(),
			"destroyedAt": one.At.AsTime().UTC().Format(time.RFC3339), "how": "unlinked", "inUse": n.after.Generation,
			"keyInUse": now.SPKI == record.SPKI, // then a file went, and the key is in another
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// mostDestroyed bounds what of a report is kept of destroyed keys: an agent says
// of the newest.
const mostDestroyed = 8

func boundDestroyed(said []*api.DestroyedKey) []*api.DestroyedKey {
	return said[max(0, len(said)-mostDestroyed):]
}
