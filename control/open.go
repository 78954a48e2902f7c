package control

import (
	"context"
	"crypto"
	"crypto/x509"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/store"
)

// Open returns a Control over a store that was founded. It opens the issuing
// authority's key and the audit log's with the KEK.
func Open(ctx context.Context, o Options) (*Control, error) {
	c := &Control{db: o.DB, agentAddress: o.AgentAddress, version: o.Version, now: o.Now, log: o.Log}
	err := o.DB.Read(ctx, func(tx *store.Tx) error {
		meta, err := tx.Meta(ctx)
		if err != nil {
			return err
		}
		if o.TrustDomain != "" && o.TrustDomain != meta.TrustDomain {
			return fault.New(fault.Conflict, "the store is of trust domain %q, this server is set up for %q", meta.TrustDomain, o.TrustDomain).
				WithRemedy("put the right store in its place, or correct trustDomain in rotunda.yaml")
		}
		if c.domain, err = spiffeid.TrustDomainFromString(meta.TrustDomain); err != nil {
			return fault.Wrap(fault.Internal, err, "trust domain of the store")
		}
		if err := c.openAuthorities(ctx, tx, o); err != nil {
			return err
		}
		return c.openLog(ctx, tx, o.KEK)
	})
	if err != nil {
		return nil, err
	}
	if err := c.placeTargets(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Control) openAuthorities(ctx context.Context, tx *store.Tx, o Options) error {
	authorities, err := tx.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, record := range authorities {
		if record.State != fleet.AuthorityActive {
			continue
		}
		certificate, err := x509.ParseCertificate(record.Certificate)
		if err != nil {
			return fault.Wrap(fault.Internal, err, "certificate of authority %s", record.Name)
		}
		switch record.Kind {
		case store.RootAuthority:
			c.root = certificate
		case store.IssuingAuthority:
			if c.issuer, err = openIssuer(ctx, tx, o, record.ID, certificate); err != nil {
				return fault.Wrap(fault.CodeOf(err), err, "issuing authority %s", record.Name)
			}
		}
	}
	if c.root == nil || c.issuer == nil {
		return fault.New(fault.Internal, "the store has no active root or no active issuing authority").
			WithRemedy("it was not made by rotunda init, or is damaged: restore a backup")
	}
	return nil
}

func openIssuer(ctx context.Context, tx *store.Tx, o Options, id string, certificate *x509.Certificate) (*ca.Authority, error) {
	record, err := tx.AuthorityKey(ctx, id)
	if err != nil {
		return nil, err
	}
	plain, err := o.KEK.Unwrap(record.KEKID, record.Sealed, []byte(id))
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
	return ca.NewAuthority(id, certificate, []*x509.Certificate{certificate}, signer, o.PublicURL)
}

func (c *Control) openLog(ctx context.Context, tx *store.Tx, kek *keys.KEK) error {
	secret, err := tx.Secret(ctx, logKeyName)
	if err != nil {
		return err
	}
	plain, err := kek.Unwrap(secret.KEKID, secret.Sealed, []byte(logKeyName))
	if err != nil {
		return err
	}
	signing, verifier, _ := strings.Cut(string(plain), "\n")
	c.logKey = verifier
	if c.logSigner, err = note.NewSigner(signing); err != nil {
		return fault.Wrap(fault.Internal, err, "audit log's key")
	}
	return nil
}
