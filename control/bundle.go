package control

import (
	"context"
	"crypto/x509"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// currentBundle is the newest bundle of the name.
func (c *Control) currentBundle(ctx context.Context, tx *store.Tx, name fleet.Name) (pki.Bundle, error) {
	record, err := tx.CurrentBundle(ctx, string(name))
	if err != nil {
		return pki.Bundle{}, err
	}
	return pki.ParseBundleDER(record.Anchors)
}

// storeBundle makes what a Bundle document declares the newest bundle of its
// name, if it is not already.
func (c *Control) storeBundle(ctx context.Context, tx *store.Tx, name fleet.Name, declared *fleet.Bundle) error {
	var anchors []*x509.Certificate
	for _, anchor := range declared.Anchors {
		found, err := c.resolveAnchor(ctx, tx, anchor)
		if err != nil {
			return err
		}
		anchors = append(anchors, found...)
	}
	anchors, err := c.applyTrust(ctx, tx, anchors)
	if err != nil {
		return err
	}
	bundle, err := pki.NewBundle(anchors)
	if err != nil {
		return err
	}
	return putBundle(ctx, tx, name, bundle)
}

func putBundle(ctx context.Context, tx *store.Tx, name fleet.Name, bundle pki.Bundle) error {
	current, err := tx.CurrentBundle(ctx, string(name))
	if err == nil && current.Digest == bundle.Digest() {
		return nil
	}
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return err
	}
	return tx.PutBundle(ctx, store.Bundle{Name: string(name), Digest: bundle.Digest(), Anchors: bundle.DER()})
}

func (c *Control) resolveAnchor(ctx context.Context, tx *store.Tx, anchor fleet.Anchor) ([]*x509.Certificate, error) {
	if anchor.Authority == "" {
		return pki.ParseCertificatesPEM([]byte(anchor.PEM))
	}
	authority, err := tx.AuthorityByName(ctx, anchor.Authority)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(authority.Certificate)
	return []*x509.Certificate{certificate}, err
}

// maxFetch bounds what one call asks for.
const maxFetch = 64

// FetchBlobs returns bundles, bridges, staples and lists of revoked certificates by
// digest to agents.
func (c *Control) FetchBlobs(ctx context.Context, caller Caller, req *api.FetchBlobsRequest) (*api.FetchBlobsResponse, error) {
	if err := authorize(caller, "bundle.fetch"); err != nil {
		return nil, err
	}
	if len(req.Digests) > maxFetch {
		return nil, fault.New(fault.Invalid, "%d digests in one call, at most %d may be", len(req.Digests), maxFetch)
	}
	response := &api.FetchBlobsResponse{}
	for _, text := range req.Digests {
		blob, err := c.blob(ctx, text)
		if err != nil {
			return nil, err
		}
		response.Blobs = append(response.Blobs, blob)
	}
	return response, nil
}

// blob finds what has the digest. Lists are looked for first where they are in
// memory: after a revocation each agent asks for the same ones.
func (c *Control) blob(ctx context.Context, text string) (*api.Blob, error) {
	digest, err := pki.ParseBundleDigest(text)
	if err != nil {
		return nil, err
	}
	if lists := c.listBytes.byDigest(pki.Fingerprint(digest)); lists != nil {
		return &api.Blob{Digest: text, Crls: lists}, nil
	}
	blob := &api.Blob{Digest: text}
	return blob, c.db.Read(ctx, func(tx *store.Tx) error {
		record, err := tx.BundleByDigest(ctx, digest)
		if blob.Anchors = record.Anchors; fault.CodeOf(err) == fault.NotFound {
			blob.Bridge, err = bridgeByDigest(ctx, tx, pki.Fingerprint(digest))
		}
		if fault.CodeOf(err) == fault.NotFound {
			blob.Staple, err = stapleByDigest(ctx, tx, pki.Fingerprint(digest))
		}
		if fault.CodeOf(err) == fault.NotFound {
			blob.Crls, err = c.listsByDigest(ctx, tx, pki.Fingerprint(digest))
		}
		return err
	})
}
