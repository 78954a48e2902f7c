package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// blobs keeps bundles by digest. A bundle is believed because its digest is
// the one that was asked for, wherever it comes from.
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

// prune removes the bundles that the state does not name. The executor has
// what it uses in its revisions.
func (b *blobs) prune(state *api.DesiredState) error {
	named := map[string]bool{}
	for _, placement := range state.GetPlacements() {
		named[placement.BundleDigest] = true
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
