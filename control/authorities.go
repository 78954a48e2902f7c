package control

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/store"
)

// Which authority signs is what the store says at the moment of signing: during
// a change of trust there are two that could. What is kept in memory is only
// what never changes: an authority's certificate, chain and opened key.

// signer is an authority whose key is here, and the root that it leads to.
type signer struct {
	*ca.Authority
	root *x509.Certificate
}

// signers are all authorities that can sign, the one of no region first: those of
// a change of trust before and after it, too. Of those that are active what this
// server can't open is left out, while there is another.
func (c *Control) signers(ctx context.Context, tx *store.Tx) ([]*signer, error) {
	active, err := c.issuer(ctx, tx)
	if err != nil {
		return nil, err
	}
	signers := []*signer{active}
	all, err := tx.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	for _, record := range all {
		if record.Kind != store.IssuingAuthority || record.ID == active.ID || record.State == fleet.AuthorityWithdrawn {
			continue
		}
		other, err := c.signer(ctx, tx, record.ID)
		if fault.CodeOf(err) == fault.NotFound {
			continue // its key is not here
		}
		if err != nil && record.State == fleet.AuthorityActive {
			c.log.Error("AN ISSUING AUTHORITY CAN'T SIGN HERE: another takes its place", "authority", record.Name, "region", record.Region, "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		signers = append(signers, other)
	}
	return signers, nil
}

// signer opens the authority of the id, once.
func (c *Control) signer(ctx context.Context, tx *store.Tx, id string) (*signer, error) {
	if opened, ok := c.opened.Load(id); ok {
		return opened.(*signer), nil
	}
	record, err := tx.Authority(ctx, id)
	if err != nil {
		return nil, err
	}
	certificate, err := certificateOf(record)
	if err != nil {
		return nil, err
	}
	above, err := rootOf(ctx, tx, record)
	if err != nil {
		return nil, err
	}
	root, err := certificateOf(above)
	if err != nil {
		return nil, err
	}
	authority, err := openIssuer(ctx, tx, c.kek, c.publicURL, id, certificate)
	if err != nil {
		return nil, fault.Wrap(fault.CodeOf(err), err, "issuing authority %s", record.Name)
	}
	opened := &signer{authority, root}
	if tx.Committed() { // what a Write shows may be rolled back
		c.opened.Store(id, opened)
	}
	return opened, nil
}

// issuerLast is how much of an authority's life is too little for it to sign what
// lives for a day.
const issuerLast = 3 * time.Hour

// IssuerEnded says, in words, that the authority that signs now has itself expired,
// or as good as that; empty: it has not. Then nothing can be signed for anybody, this server neither,
// before another takes its place.
func (c *Control) IssuerEnded(ctx context.Context) (words string, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		words, err = c.issuerEnded(ctx, tx)
		return err
	})
	return words, err
}

func (c *Control) issuerEnded(ctx context.Context, tx *store.Tx) (string, error) {
	by, err := c.issuer(ctx, tx)
	if err != nil || !hasEnded(by.Certificate.NotAfter, tx.Now) {
		return "", err
	}
	return fmt.Sprintf("the authority that signs, %q, %s: no certificate can be issued or renewed; replace it by the admin socket: rotunda trust rotate issuing --root-key FILE",
		by.Certificate.Subject.CommonName, endedWords(by.Certificate.NotAfter, tx.Now)), nil
}

func hasEnded(notAfter, now time.Time) bool { return notAfter.Sub(now) <= issuerLast }

func endedWords(notAfter, now time.Time) string {
	verb := "expired"
	if now.Before(notAfter) {
		verb = "expires"
	}
	return verb + " at " + notAfter.UTC().Format(time.RFC3339)
}

// rootOf is the root above an authority; a root is its own.
func rootOf(ctx context.Context, tx *store.Tx, record store.Authority) (store.Authority, error) {
	for record.Kind != store.RootAuthority {
		var err error
		if record, err = tx.Authority(ctx, record.ParentID); err != nil {
			return record, err
		}
	}
	return record, nil
}

// certificateOf reads what is recorded of an authority.
func certificateOf(record store.Authority) (*x509.Certificate, error) {
	certificate, err := x509.ParseCertificate(record.Certificate)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "certificate of authority %s", record.Name)
	}
	return certificate, nil
}

func openIssuer(ctx context.Context, tx *store.Tx, kek *keys.KEK, publicURL, id string, certificate *x509.Certificate) (*ca.Authority, error) {
	record, err := tx.AuthorityKey(ctx, id)
	if err != nil {
		return nil, err
	}
	plain, err := kek.Unwrap(record.KEKID, record.Sealed, []byte(id))
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "key of authority %s", id)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fault.New(fault.Internal, "key of authority %s can't sign", id)
	}
	return ca.NewAuthority(id, certificate, []*x509.Certificate{certificate}, signer, publicURL)
}

// Issuer is the authority that signs now what is of no region.
func (c *Control) Issuer(ctx context.Context) (*ca.Authority, error) {
	active, err := c.issuerNow(ctx)
	return active.Authority, err
}

// Root is the root that the authority which signs now leads to.
func (c *Control) Root(ctx context.Context) (*x509.Certificate, error) {
	active, err := c.issuerNow(ctx)
	return active.root, err
}

// issuerNow is issuer in a read of its own; empty with an error.
func (c *Control) issuerNow(ctx context.Context) (signer, error) {
	var active signer
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		found, err := c.issuer(ctx, tx)
		if err == nil {
			active = *found
		}
		return err
	})
	return active, err
}

// chainOf is what is sent with a certificate that was issued before: itself and
// the chain of the authority that signed it, which need not be the one that
// signs now.
func (c *Control) chainOf(ctx context.Context, tx *store.Tx, record store.Certificate) ([][]byte, error) {
	by, err := tx.Authority(ctx, record.AuthorityID)
	if err != nil {
		return nil, err
	}
	return [][]byte{record.DER, by.Certificate}, nil
}

// sign makes a certificate by the authority that signs now; nobody may see it
// until its record is durable.
func (c *Control) sign(ctx context.Context, tx *store.Tx, request ca.Request) (ca.Issued, error) {
	by, err := c.issuer(ctx, tx)
	if err != nil {
		return ca.Issued{}, err
	}
	return signBy(by.Authority, tx, request)
}

func signBy(by *ca.Authority, tx *store.Tx, request ca.Request) (ca.Issued, error) {
	prepared, err := by.Prepare(tx.Now, request)
	if err != nil {
		return ca.Issued{}, err
	}
	return by.Issue(prepared)
}
