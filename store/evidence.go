package store

import (
	"context"
	"errors"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Evidence is one observation, as its observer signed it.
type Evidence struct {
	Digest      string // hex, of the statement
	PlacementID string
	Observer    string // agent
	Kind        string
	Verdict     string
	Statement   []byte // exact bytes
	Signature   []byte
	At          time.Time
	Keep        bool // keep it past newer ones though its verdict is theirs: something cites it
}

const evidenceColumns = `placement_id, observer, kind, digest, verdict, statement, signature, at`

func (e *Evidence) columns() []any {
	return []any{
		&e.PlacementID, &e.Observer, &e.Kind, &e.Digest, &e.Verdict, &e.Statement, &e.Signature, moment{&e.At},
	}
}

func (e Evidence) args() []any {
	return []any{e.PlacementID, e.Observer, e.Kind, e.Digest, e.Verdict, e.Statement, e.Signature, micros(e.At)}
}

// PutEvidence makes e the latest of its (placement, observer, kind), unless a
// later one is there already. Of a run of equal verdicts the first is kept as
// history, and those to Keep.
func (tx *Tx) PutEvidence(ctx context.Context, e Evidence) error {
	what := thing{"evidence", e.Digest}
	before, err := value[string](ctx, tx, what, `
		SELECT verdict FROM evidence_latest WHERE placement_id = $1 AND observer = $2 AND kind = $3`,
		e.PlacementID, e.Observer, e.Kind)
	first := fault.CodeOf(err) == fault.NotFound
	if err != nil && !first {
		return err
	}
	_, err = tx.exec(ctx, `
		INSERT INTO evidence_latest (`+evidenceColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (placement_id, observer, kind) DO UPDATE
		SET digest = excluded.digest, verdict = excluded.verdict, statement = excluded.statement,
			signature = excluded.signature, at = excluded.at
		WHERE evidence_latest.at <= excluded.at`, e.args()...)
	if err != nil || !(first || e.Keep || before != e.Verdict) {
		return what.wrap(err)
	}
	_, err = tx.exec(ctx, `
		INSERT INTO evidence (`+evidenceColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (placement_id, digest) DO NOTHING`, e.args()...)
	return what.wrap(err)
}

// EvidenceOf returns what was observed at a placement, the latest and the
// history, the newest first.
func (tx *Tx) EvidenceOf(ctx context.Context, placementID string) ([]Evidence, error) {
	return list[Evidence](ctx, tx, "evidence of a placement", `
		SELECT `+evidenceColumns+` FROM evidence_latest WHERE placement_id = $1
		UNION
		SELECT `+evidenceColumns+` FROM evidence WHERE placement_id = $1
		ORDER BY at DESC, digest`, placementID)
}

// Evidence returns the observation of the digest.
func (tx *Tx) Evidence(ctx context.Context, digest string) (Evidence, error) {
	return one[Evidence](ctx, tx, thing{"evidence", digest}, `
		SELECT `+evidenceColumns+` FROM evidence WHERE digest = $1
		UNION
		SELECT `+evidenceColumns+` FROM evidence_latest WHERE digest = $1
		LIMIT 1`, digest)
}

// PruneEvidence forgets history from before then that is not the latest, at
// most limit of it, and returns how much.
func (tx *Tx) PruneEvidence(ctx context.Context, before time.Time, limit int) (int, error) {
	if limit <= 0 {
		return 0, errors.New("prune evidence: the limit must be above 0")
	}
	rows, err := tx.exec(ctx, `
		DELETE FROM evidence WHERE (placement_id, digest) IN
			(SELECT placement_id, digest FROM evidence WHERE at < $1 ORDER BY at LIMIT $2)`, micros(before), limit)
	return int(rows), thing{noun: "evidence"}.wrap(err)
}
