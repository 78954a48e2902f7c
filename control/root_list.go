package control

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// A root has one list, of the authorities below it that were revoked. Its key is
// away, so the list is signed by a ceremony and lasts for a year: servers that
// want a list for each CA of a chain can't do without it.

// PrepareRootList says what the next list of a root has to say.
func (c *Control) PrepareRootList(ctx context.Context, caller Caller, req *api.PrepareRootListRequest) (*api.PrepareRootListResponse, error) {
	if err := authorize(caller, "authority.list"); err != nil {
		return nil, err
	}
	response := &api.PrepareRootListResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		authority, err := rootNamed(ctx, tx, req.Authority)
		if err != nil {
			return err
		}
		if authority.Origin == store.KeyForeign {
			return fault.New(fault.Invalid, "authority %s is not ours: its list comes from who holds its key", authority.Name).
				WithRemedy("ask its owner for it, then: rotunda authority crl %s --install FILE", authority.Name)
		}
		previous, err := tx.CRL(ctx, authority.ID, ca.WholeList)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return err
		}
		response.Root, response.NextUpdate = authority.Certificate, stamp(previous.NextUpdate)
		response.Number = termsAfter(previous.CRLHead, tx.Now, tx.Now).Number
		revoked, err := revokedBelow(ctx, tx, authority.ID)
		for _, record := range revoked {
			response.Entries = append(response.Entries, &api.RootListEntry{
				Serial: record.Serial.String(), Reason: record.Reason, RevokedAt: stamp(record.RevokedAt), NotAfter: stamp(record.NotAfter),
			})
		}
		return err
	})
	return response, err
}

// PutRootList takes a list that was signed where the root's key is.
func (c *Control) PutRootList(ctx context.Context, caller Caller, req *api.PutRootListRequest) (*api.PutRootListResponse, error) {
	if err := authorize(caller, "authority.list"); err != nil {
		return nil, err
	}
	response := &api.PutRootListResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		authority, err := rootNamed(ctx, tx, req.Authority)
		if err != nil {
			return err
		}
		certificate, err := certificateOf(authority)
		if err != nil {
			return err
		}
		if err := recordRootList(ctx, tx, authority.ID, certificate, req.Crl); err != nil {
			return err
		}
		head, err := tx.CRLHead(ctx, authority.ID, ca.WholeList)
		if err != nil {
			return err
		}
		response.NextUpdate = stamp(head.NextUpdate)
		response.AuditId, err = done(ctx, tx, caller, "crl.publish", "Authority/"+authority.ID, map[string]any{"lists": []map[string]any{{
			"shard": head.Shard, "number": head.Number, "sha256": head.Digest.String(), "entries": head.Count,
			"nextUpdate": head.NextUpdate.Format(time.RFC3339),
		}}})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.watchers.wakeEverybody()
	return response, nil
}

func rootNamed(ctx context.Context, tx *store.Tx, name string) (store.Authority, error) {
	authority, err := tx.AuthorityByName(ctx, name)
	switch {
	case err != nil:
		return authority, err
	case authority.Kind != store.RootAuthority || authority.CrossOf != "":
		return authority, fault.New(fault.Invalid, "authority %s is no root: its lists are signed here, as they fall due", name)
	}
	return authority, nil
}

// revokedBelow are the certificates that a root signed and that were revoked.
func revokedBelow(ctx context.Context, tx *store.Tx, rootID string) ([]store.Certificate, error) {
	all, err := tx.Certificates(ctx, store.CertificateQuery{Kind: store.KindAuthority, AuthorityID: rootID})
	var revoked []store.Certificate
	for _, record := range all {
		if !record.RevokedAt.IsZero() {
			revoked = append(revoked, record)
		}
	}
	return revoked, err
}

// recordRootList makes a list the root's. It must be newer than the one that
// there is, and leave out nothing that is revoked.
func recordRootList(ctx context.Context, tx *store.Tx, rootID string, root *x509.Certificate, der []byte) error {
	list, err := ca.CheckRootCRL(tx.Now, root, der)
	if err != nil {
		return err
	}
	previous, err := tx.CRLHead(ctx, rootID, ca.WholeList)
	if err = ignoreMissing(err); err != nil {
		return err
	}
	if number := list.Number.Int64(); number <= previous.Number {
		return fault.New(fault.Conflict, "CRL of root %q: its number %d is not above %d, the one that there is", root.Subject, number, previous.Number).
			WithRemedy("sign a new one: rotunda authority crl")
	}
	revoked, err := revokedBelow(ctx, tx, rootID)
	if err != nil {
		return err
	}
	ends := map[pki.Serial]time.Time{}
	for _, record := range revoked {
		ends[record.Serial] = record.NotAfter
	}
	entries, err := ca.EntriesOf(list, func(serial pki.Serial) time.Time { return ends[serial] })
	if err != nil {
		return err
	}
	for _, record := range revoked {
		if !entries.Has(record.Serial) && record.NotAfter.After(tx.Now) {
			return fault.New(fault.Conflict, "CRL of root %q leaves out %s, which was revoked at %s", root.Subject, record.Serial, record.RevokedAt.Format(time.RFC3339)).
				WithRemedy("sign a new one: rotunda authority crl")
		}
	}
	err = tx.PutCRL(ctx, store.CRL{
		CRLHead: store.CRLHead{
			AuthorityID: rootID, Shard: ca.WholeList, Number: list.Number.Int64(), Digest: pki.FingerprintOf(der),
			ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate, Count: entries.Len(),
		},
		Head: der, Tail: []byte{}, // it is never taken apart
	}, previous.Number, store.EntryChange{})
	if err != nil {
		return err
	}
	return tx.RootListed(ctx, rootID)
}
