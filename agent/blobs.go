package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// blobs keeps bundles, bridges, CRLs and staples by digest. One is believed because its digest
// is the one that was asked for, wherever it comes from.
type blobs struct {
	dir   *os.Root
	fetch func(ctx context.Context, digests []string) ([]*api.Blob, error)
}

// bundles returns the bundles of all the digests, from disk where they lie
// there, else from the server.
func (b *blobs) bundles(ctx context.Context, digests []string) (map[string]pki.Bundle, error) {
	found := make(map[string]pki.Bundle, len(digests))
	var missing []string
	for _, digest := range digests {
		if _, err := pki.ParseBundleDigest(digest); err != nil {
			return nil, err
		}
		bundle, err := b.read(digest)
		if err != nil {
			missing = append(missing, digest)
			continue
		}
		found[digest] = bundle
	}
	if len(missing) == 0 {
		return found, nil
	}
	fetched, err := b.fetch(ctx, missing)
	if err != nil {
		return nil, fmt.Errorf("fetch bundles: %w", err)
	}
	for _, blob := range fetched {
		bundle, err := pki.ParseBundleDER(blob.Anchors)
		if err != nil {
			return nil, fmt.Errorf("bundle %s: %w", blob.Digest, err)
		}
		digest := bundle.Digest().String()
		if err := durable.WriteFile(b.dir, digest, bundle.PEM(), 0o600, nil); err != nil {
			return nil, fmt.Errorf("keep bundle %s: %w", digest, err)
		}
		found[digest] = bundle
	}
	for _, digest := range missing {
		if _, ok := found[digest]; !ok {
			return nil, fault.New(fault.NotFound, "bundle %s: the server does not have it", digest)
		}
	}
	return found, nil
}

// read returns a bundle from disk. A damaged file is as good as none.
func (b *blobs) read(digest string) (pki.Bundle, error) {
	content, err := b.dir.ReadFile(digest)
	if err != nil {
		return pki.Bundle{}, err
	}
	bundle, err := pki.ParseBundlePEM(content)
	if err == nil && bundle.Digest().String() != digest {
		err = errors.New("damaged")
	}
	return bundle, err
}

// bridge returns the bridge of the digest, the SHA-256 of its DER, in hex.
func (b *blobs) bridge(ctx context.Context, digest string) (*x509.Certificate, error) {
	if _, err := pki.ParseFingerprint(digest); err != nil {
		return nil, err
	}
	if content, err := b.dir.ReadFile(digest); err == nil {
		if bridge, err := parseBridge(digest, content); err == nil {
			return bridge, nil
		}
	}
	fetched, err := b.fetch(ctx, []string{digest})
	if err != nil {
		return nil, fmt.Errorf("fetch bridge: %w", err)
	}
	for _, blob := range fetched {
		content := pki.EncodeCertificatesPEM(blob.GetBridge())
		bridge, err := parseBridge(digest, content)
		if err != nil {
			continue // a bundle, or another one
		}
		if err := durable.WriteFile(b.dir, digest, content, 0o600, nil); err != nil {
			return nil, fmt.Errorf("keep bridge %s: %w", digest, err)
		}
		return bridge, nil
	}
	return nil, fault.New(fault.NotFound, "bridge %s: the server does not have it", digest)
}

// crls returns the CRLs of the digest, the SHA-256 of their DERs one after the
// other, in hex.
func (b *blobs) crls(ctx context.Context, digest string) (pki.CRLs, error) {
	if content, err := b.dir.ReadFile(digest); err == nil {
		if crls, err := pki.ParseCRLsPEM(content); err == nil && crls.Digest().String() == digest {
			return crls, nil
		}
	}
	blob, err := b.one(ctx, "CRLs", digest)
	if err != nil {
		return pki.CRLs{}, err
	}
	crls, err := pki.ParseCRLs(blob.GetCrls())
	if err == nil && crls.Digest().String() != digest {
		err = errors.New("the server sent others")
	}
	if err != nil {
		return pki.CRLs{}, fmt.Errorf("CRLs %s: %w", digest, err)
	}
	return crls, b.keep(digest, crls.PEM())
}

// staple returns the OCSP response of the digest.
func (b *blobs) staple(ctx context.Context, digest string) ([]byte, error) {
	if der, err := b.dir.ReadFile(digest); err == nil && pki.FingerprintOf(der).String() == digest {
		return der, nil
	}
	blob, err := b.one(ctx, "staple", digest)
	if err != nil {
		return nil, err
	}
	if der := blob.GetStaple(); pki.FingerprintOf(der).String() == digest {
		return der, b.keep(digest, der)
	}
	return nil, fmt.Errorf("staple %s: the server sent another", digest)
}

// one fetches the blob of a digest.
func (b *blobs) one(ctx context.Context, what, digest string) (*api.Blob, error) {
	if _, err := pki.ParseFingerprint(digest); err != nil {
		return nil, err
	}
	fetched, err := b.fetch(ctx, []string{digest})
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", what, err)
	}
	for _, blob := range fetched {
		if blob.GetDigest() == digest {
			return blob, nil
		}
	}
	return nil, fault.New(fault.NotFound, "%s %s: the server does not have it", what, digest)
}

func (b *blobs) keep(digest string, content []byte) error {
	if err := durable.WriteFile(b.dir, digest, content, 0o600, nil); err != nil {
		return fmt.Errorf("keep %s: %w", digest, err)
	}
	return nil
}

// parseBridge reads the one certificate that has the digest.
func parseBridge(digest string, content []byte) (*x509.Certificate, error) {
	read, err := pki.ParseCertificatesPEM(content)
	if err == nil && (len(read) != 1 || pki.FingerprintOf(read[0].Raw).String() != digest) {
		err = errors.New("its file holds another one")
	}
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", digest, err)
	}
	return read[0], nil
}

// prune removes what the state does not name. The executor has
// what it uses in its revisions.
func (b *blobs) prune(state *api.DesiredState) error {
	named := map[string]bool{}
	for _, placement := range state.GetPlacements() {
		named[placement.BundleDigest], named[placement.BridgeDigest] = true, true
		named[placement.CrlDigest], named[placement.StapleDigest] = true, true
		for _, digest := range placement.PeerBundleDigests {
			named[digest] = true
		}
	}
	entries, err := fs.ReadDir(b.dir.FS(), ".")
	if err != nil {
		return fmt.Errorf("prune bundles: %w", err)
	}
	for _, entry := range entries {
		if !named[entry.Name()] {
			if err := durable.Remove(b.dir, entry.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}
