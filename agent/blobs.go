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

// blobs keeps bundles and bridges by digest. One is believed because its digest
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

// prune removes the bundles and bridges that the state does not name. The executor has
// what it uses in its revisions.
func (b *blobs) prune(state *api.DesiredState) error {
	named := map[string]bool{}
	for _, placement := range state.GetPlacements() {
		named[placement.BundleDigest], named[placement.BridgeDigest] = true, true
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
