package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Bundle is a named set of anchors. The current one of a name is that of the
// highest Seq.
type Bundle struct {
	Name      string
	Seq       uint64 // from 1
	Digest    pki.BundleDigest
	Anchors   [][]byte // DER, in the bundle's order
	CreatedAt time.Time
}

const bundleColumns = `name, seq, digest, created_at`

func (b *Bundle) columns() []any {
	return []any{&b.Name, &b.Seq, fixed(b.Digest[:]), moment{&b.CreatedAt}}
}

type anchor struct{ der []byte }

func (a *anchor) columns() []any { return []any{&a.der} }

// PutBundle makes b the current bundle of its name. Seq and CreatedAt are set
// here.
func (tx *Tx) PutBundle(ctx context.Context, b Bundle) error {
	what := thing{"bundle", b.Name}
	_, err := tx.exec(ctx, `
		INSERT INTO bundle (name, seq, digest, created_at)
		VALUES ($1, (SELECT COALESCE(MAX(seq), 0) + 1 FROM bundle WHERE name = $1), $2, $3)`,
		b.Name, b.Digest[:], micros(tx.Now))
	if err != nil {
		return what.wrap(err)
	}
	for position, der := range b.Anchors {
		_, err := tx.exec(ctx, `
			INSERT INTO bundle_anchor (digest, position, der) VALUES ($1, $2, $3)
			ON CONFLICT (digest, position) DO NOTHING`, b.Digest[:], position, der)
		if err != nil {
			return what.wrap(err)
		}
	}
	return nil
}

// CurrentBundle returns the current bundle of the name.
func (tx *Tx) CurrentBundle(ctx context.Context, name string) (Bundle, error) {
	b, err := one[Bundle](ctx, tx, thing{"bundle", name}, `
		SELECT `+bundleColumns+` FROM bundle WHERE name = $1 ORDER BY seq DESC LIMIT 1`, name)
	return tx.withAnchors(ctx, b, err)
}

// BundleByDigest returns a bundle by its content. Where names share it, it is
// one of them.
func (tx *Tx) BundleByDigest(ctx context.Context, digest pki.BundleDigest) (Bundle, error) {
	b, err := one[Bundle](ctx, tx, thing{"bundle", digest}, `
		SELECT `+bundleColumns+` FROM bundle WHERE digest = $1 ORDER BY created_at DESC, name LIMIT 1`, digest[:])
	return tx.withAnchors(ctx, b, err)
}

// Bundles returns the current bundle of each name, by name.
func (tx *Tx) Bundles(ctx context.Context) ([]Bundle, error) {
	bundles, err := list[Bundle](ctx, tx, "bundles", `
		SELECT `+bundleColumns+` FROM bundle
		WHERE seq = (SELECT MAX(newest.seq) FROM bundle newest WHERE newest.name = bundle.name)
		ORDER BY name`)
	for i, b := range bundles {
		if bundles[i], err = tx.withAnchors(ctx, b, err); err != nil {
			return nil, err
		}
	}
	return bundles, err
}

func (tx *Tx) withAnchors(ctx context.Context, b Bundle, err error) (Bundle, error) {
	if err != nil {
		return b, err
	}
	anchors, err := list[anchor](ctx, tx, "anchors", `
		SELECT der FROM bundle_anchor WHERE digest = $1 ORDER BY position`, b.Digest[:])
	for _, a := range anchors {
		b.Anchors = append(b.Anchors, a.der)
	}
	return b, err
}
