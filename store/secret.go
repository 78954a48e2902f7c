package store

import "context"

// AuthorityKey is the key of an issuing authority, sealed.
type AuthorityKey struct {
	AuthorityID string
	KEKID       string // which KEK opens it
	Sealed      []byte
}

func (k *AuthorityKey) columns() []any { return []any{&k.AuthorityID, &k.KEKID, &k.Sealed} }

// PutAuthorityKey stores the sealed key, in place of the one before: to seal
// it by another KEK.
func (tx *Tx) PutAuthorityKey(ctx context.Context, k AuthorityKey) error {
	_, err := tx.exec(ctx, `
		INSERT INTO authority_key (authority_id, kek_id, sealed) VALUES ($1, $2, $3)
		ON CONFLICT (authority_id) DO UPDATE SET kek_id = excluded.kek_id, sealed = excluded.sealed`,
		k.AuthorityID, k.KEKID, k.Sealed)
	return thing{"key of authority", k.AuthorityID}.wrap(err)
}

// AuthorityKey returns the sealed key of an authority.
func (tx *Tx) AuthorityKey(ctx context.Context, authorityID string) (AuthorityKey, error) {
	return one[AuthorityKey](ctx, tx, thing{"key of authority", authorityID}, `
		SELECT authority_id, kek_id, sealed FROM authority_key WHERE authority_id = $1`, authorityID)
}

// DeleteAuthorityKey forgets the key of an authority that was withdrawn.
func (tx *Tx) DeleteAuthorityKey(ctx context.Context, authorityID string) error {
	return tx.set(ctx, thing{"key of authority", authorityID}, `
		DELETE FROM authority_key WHERE authority_id = $1`, authorityID)
}

// Secret is another key of the control plane, sealed: the audit log's.
type Secret struct {
	Name   string
	KEKID  string
	Sealed []byte
}

func (s *Secret) columns() []any { return []any{&s.Name, &s.KEKID, &s.Sealed} }

// PutSecret stores a sealed secret, in place of the one of that name.
func (tx *Tx) PutSecret(ctx context.Context, s Secret) error {
	_, err := tx.exec(ctx, `
		INSERT INTO secret (name, kek_id, sealed) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET kek_id = excluded.kek_id, sealed = excluded.sealed`,
		s.Name, s.KEKID, s.Sealed)
	return thing{"secret", s.Name}.wrap(err)
}

// Secret returns the sealed secret of the name.
func (tx *Tx) Secret(ctx context.Context, name string) (Secret, error) {
	return one[Secret](ctx, tx, thing{"secret", name}, `
		SELECT name, kek_id, sealed FROM secret WHERE name = $1`, name)
}

// DeleteSecret forgets the secret of the name.
func (tx *Tx) DeleteSecret(ctx context.Context, name string) error {
	return tx.set(ctx, thing{"secret", name}, `DELETE FROM secret WHERE name = $1`, name)
}
