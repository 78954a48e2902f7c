package store

import (
	"context"
	"time"
)

// Document is what an operator declared, whole and as JSON.
type Document struct {
	Kind      string
	Name      string
	Revision  uint64 // from 1, never reused
	JSON      []byte // nil in the revision that removed it
	ChangedAt time.Time
	ChangedBy string
	GitCommit string
}

const documentColumns = `kind, name, revision, json, changed_at, changed_by, git_commit`

func (d *Document) columns() []any {
	return []any{&d.Kind, &d.Name, &d.Revision, &d.JSON, moment{&d.ChangedAt}, &d.ChangedBy, &d.GitCommit}
}

func (d Document) thing() thing { return thing{"document", d.Kind + "/" + d.Name} }

// PutDocument stores the next revision of a document. Revision and ChangedAt
// are set here.
func (tx *Tx) PutDocument(ctx context.Context, d Document) error {
	if err := tx.revise(ctx, d); err != nil {
		return err
	}
	_, err := tx.exec(ctx, `
		INSERT INTO document (`+documentColumns+`)
		SELECT `+documentColumns+` FROM document_revision
		WHERE kind = $1 AND name = $2 ORDER BY revision DESC LIMIT 1
		ON CONFLICT (kind, name) DO UPDATE SET revision = excluded.revision, json = excluded.json,
			changed_at = excluded.changed_at, changed_by = excluded.changed_by, git_commit = excluded.git_commit`,
		d.Kind, d.Name)
	return d.thing().wrap(err)
}

// DeleteDocument removes a document; its revisions stay, and one more says who
// removed it and when.
func (tx *Tx) DeleteDocument(ctx context.Context, kind, name, by string) error {
	d := Document{Kind: kind, Name: name, ChangedBy: by}
	if err := tx.set(ctx, d.thing(), `DELETE FROM document WHERE kind = $1 AND name = $2`, kind, name); err != nil {
		return err
	}
	return tx.revise(ctx, d)
}

func (tx *Tx) revise(ctx context.Context, d Document) error {
	_, err := tx.exec(ctx, `
		INSERT INTO document_revision (`+documentColumns+`)
		VALUES ($1, $2, (SELECT COALESCE(MAX(revision), 0) + 1 FROM document_revision WHERE kind = $1 AND name = $2),
			$3, $4, $5, $6)`,
		d.Kind, d.Name, optional(string(d.JSON)), micros(tx.Now), d.ChangedBy, d.GitCommit)
	return d.thing().wrap(err)
}

// Documents returns the documents as they stand, of one kind or of one name,
// or of all where that is empty, by kind and name.
func (tx *Tx) Documents(ctx context.Context, kind, name string) ([]Document, error) {
	return list[Document](ctx, tx, "documents", `
		SELECT `+documentColumns+` FROM document
		WHERE (kind = $1 OR $1 = '') AND (name = $2 OR $2 = '') ORDER BY kind, name`, kind, name)
}

// DocumentRevisions returns what a document was, the newest first, past its
// removal too.
func (tx *Tx) DocumentRevisions(ctx context.Context, kind, name string) ([]Document, error) {
	return list[Document](ctx, tx, "document revisions", `
		SELECT `+documentColumns+` FROM document_revision
		WHERE kind = $1 AND name = $2 ORDER BY revision DESC`, kind, name)
}
