package control

import (
	"context"
	"crypto"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// Founding is what a trust domain begins with.
type Founding struct {
	TrustDomain     spiffeid.TrustDomain
	Root            *x509.Certificate
	RootKey         crypto.Signer // used for this one signature, and not kept
	Algorithm       pki.KeyAlgorithm
	IssuingLifetime time.Duration
	PermittedDNS    []string
	PermittedIPs    []netip.Prefix
	PublicURL       string
	KEK             *keys.KEK
	Caller          Caller
}

// The names of the first authorities, and of the audit log's key. What is
// sealed under one name opens under no other.
const (
	rootName    = "root"
	issuingName = "issuing"
	logKeyName  = "audit-log"
)

// Found makes an empty store the store of a new trust domain: its root, an
// issuing authority under it whose key is sealed by the KEK, the audit log's
// key, and the domain-wide bundle. It is one transaction.
func Found(ctx context.Context, db *store.DB, f Founding) error {
	return db.Write(ctx, func(tx *store.Tx) error {
		if err := tx.SetTrustDomain(ctx, f.TrustDomain.Name()); err != nil {
			return err
		}
		rootID, issuingID := newID(), newID()
		err := tx.InsertAuthority(ctx, store.Authority{
			ID: rootID, Name: rootName, Kind: store.RootAuthority, State: fleet.AuthorityActive,
			Origin: store.KeyOffline, Certificate: f.Root.Raw,
		})
		if err != nil {
			return err
		}
		crl, err := ca.SignRootCRL(tx.Now, f.Root, f.RootKey, tx.Now.UnixMilli(), ca.NewEntries(ca.WholeList))
		if err != nil {
			return err
		}
		if err := recordRootList(ctx, tx, rootID, f.Root, crl); err != nil {
			return err
		}
		issuing, err := f.foundIssuing(ctx, tx, rootID, issuingID)
		if err != nil {
			return err
		}
		if err := f.foundLog(ctx, tx); err != nil {
			return err
		}
		bundle, err := pki.NewBundle([]*x509.Certificate{f.Root})
		if err != nil {
			return err
		}
		if err := putBundle(ctx, tx, fleet.DefaultBundle, bundle); err != nil {
			return err
		}
		_, err = done(ctx, tx, f.Caller, "init", "TrustDomain/"+f.TrustDomain.Name(), map[string]any{
			"root": pki.FingerprintOf(f.Root.Raw).String(), "issuing": pki.FingerprintOf(issuing.Raw).String(),
			"kek": f.KEK.ID(),
		})
		return err
	})
}

func (f Founding) foundIssuing(ctx context.Context, tx *store.Tx, rootID, issuingID string) (*x509.Certificate, error) {
	certificate, key, err := ca.CreateIssuing(tx.Now, f.Root, f.RootKey, ca.IssuingOrder{
		ParentID: rootID, TrustDomain: f.TrustDomain,
		Name:      f.TrustDomain.Name() + " issuing " + tx.Now.Format("2006-01"),
		Algorithm: f.Algorithm, Lifetime: f.IssuingLifetime,
		PermittedDNS: f.PermittedDNS, PermittedIPs: f.PermittedIPs,
	}, f.PublicURL)
	if err != nil {
		return nil, err
	}
	err = tx.InsertAuthority(ctx, store.Authority{
		ID: issuingID, Name: issuingName, Kind: store.IssuingAuthority, State: fleet.AuthorityActive,
		Origin: store.KeyHere, ParentID: rootID, Certificate: certificate.Raw,
	})
	if err != nil {
		return nil, err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	sealed, err := f.KEK.Wrap(plain, []byte(issuingID))
	if err != nil {
		return nil, err
	}
	return certificate, tx.PutAuthorityKey(ctx, store.AuthorityKey{AuthorityID: issuingID, KEKID: f.KEK.ID(), Sealed: sealed})
}

func (f Founding) foundLog(ctx context.Context, tx *store.Tx) error {
	signing, verifier, err := audit.NewLogKey(audit.Origin(f.TrustDomain.Name()))
	if err != nil {
		return err
	}
	sealed, err := f.KEK.Wrap([]byte(signing+"\n"+verifier), []byte(logKeyName))
	if err != nil {
		return err
	}
	return tx.PutSecret(ctx, store.Secret{Name: logKeyName, KEKID: f.KEK.ID(), Sealed: sealed})
}
