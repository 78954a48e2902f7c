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
	Keep        bool // keep it as history though its verdict is that of the one before: something cites it
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

// oldEvidence is history from before $1 on which nothing rests. It leaves what is
// the latest of its (placement, observer, kind), what an adoption cites, what was
// observed at placements of an open rollout or revocation, and while a change of
// trust or a compromise is open, all.
const oldEvidence = `FROM evidence e WHERE e.at < $1
	AND NOT EXISTS (SELECT 1 FROM trust_change WHERE ended_at IS NULL AND NOT standby)
	AND NOT EXISTS (SELECT 1 FROM compromise WHERE ended_at IS NULL)
	AND NOT EXISTS (SELECT 1 FROM evidence_latest l WHERE l.placement_id = e.placement_id AND l.digest = e.digest)
	AND NOT EXISTS (SELECT 1 FROM adoption a WHERE a.placement_id = e.placement_id AND a.evidence = e.digest)
	AND NOT EXISTS (SELECT 1 FROM rollout_part p JOIN rollout r ON r.id = p.rollout_id
		WHERE p.placement_id = e.placement_id AND r.ended_at IS NULL)
	AND NOT EXISTS (SELECT 1 FROM revocation r JOIN revocation_part p ON p.revocation_id = r.id
		JOIN certificate c ON c.serial = p.serial WHERE r.ended_at IS NULL AND c.placement_id = e.placement_id)`

// PruneEvidence forgets history from before then on which nothing rests, at most
// limit of it, and returns how much.
func (tx *Tx) PruneEvidence(ctx context.Context, before time.Time, limit int) (int, error) {
	if limit <= 0 {
		return 0, errors.New("prune evidence: the limit must be above 0")
	}
	rows, err := tx.exec(ctx, `
		DELETE FROM evidence WHERE (placement_id, digest) IN (
			SELECT e.placement_id, e.digest `+oldEvidence+` ORDER BY e.at LIMIT $2)`, micros(before), limit)
	return int(rows), thing{noun: "evidence"}.wrap(err)
}

// OldEvidence is how much PruneEvidence would forget in all.
func (tx *Tx) OldEvidence(ctx context.Context, before time.Time) (int, error) {
	return value[int](ctx, tx, thing{noun: "evidence"}, `SELECT COUNT(*) `+oldEvidence, micros(before))
}
