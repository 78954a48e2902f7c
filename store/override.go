package store

import (
	"context"
	"time"
)

// ProfileOverride is a profile that a rollout has used at a placement in the
// place of the intent's. Of a placement one stands at a time.
//
//	stands ──abort──▶ stands until the next renewal ──▶ ended
//	   └──────────rollback, the intent says so itself──────▲
type ProfileOverride struct {
	RolloutID   string
	PlacementID string
	Profile     string
	Since       time.Time
	TakenBack   time.Time // since when it is to end with the next renewal; zero: it is not
	EndedAt     time.Time // zero: it stands
	EndedWhy    string
}

const overrideColumns = `rollout_id, placement_id, profile, since, taken_back, ended_at, ended_why`

func (o *ProfileOverride) columns() []any {
	return []any{&o.RolloutID, &o.PlacementID, &o.Profile, moment{&o.Since}, moment{&o.TakenBack}, moment{&o.EndedAt}, &o.EndedWhy}
}

// InsertOverride records that a rollout's profile is used at a placement from
// now on; a Conflict if another one stands there.
func (tx *Tx) InsertOverride(ctx context.Context, rolloutID, placementID, profile string) error {
	return tx.insert(ctx, thing{"profile override at placement", placementID}, `
		INSERT INTO profile_override (`+overrideColumns+`) VALUES ($1, $2, $3, $4, NULL, NULL, '')`,
		rolloutID, placementID, profile, micros(tx.Now))
}

// StandingOverrides returns those that stand, by placement.
func (tx *Tx) StandingOverrides(ctx context.Context) ([]ProfileOverride, error) {
	return list[ProfileOverride](ctx, tx, "profile overrides", `
		SELECT `+overrideColumns+` FROM profile_override WHERE ended_at IS NULL ORDER BY placement_id`)
}

// AnyOverride says whether one stands.
func (tx *Tx) AnyOverride(ctx context.Context) (bool, error) {
	return value[bool](ctx, tx, thing{noun: "profile override"}, `SELECT EXISTS (SELECT 1 FROM profile_override WHERE ended_at IS NULL)`)
}

// LooseOverrides returns those that stand and are to end: they were taken back,
// or no intent wants their placement any more.
func (tx *Tx) LooseOverrides(ctx context.Context) ([]ProfileOverride, error) {
	return list[ProfileOverride](ctx, tx, "profile overrides", `
		SELECT `+overrideColumns+` FROM profile_override o WHERE ended_at IS NULL AND (
			taken_back IS NOT NULL OR EXISTS (SELECT 1 FROM placement p WHERE p.id = o.placement_id AND p.orphan))
		ORDER BY placement_id`)
}

// PlacementOverride returns the one that stands at a placement, if one does.
func (tx *Tx) PlacementOverride(ctx context.Context, placementID string) (ProfileOverride, error) {
	return one[ProfileOverride](ctx, tx, thing{"profile override at placement", placementID}, `
		SELECT `+overrideColumns+` FROM profile_override WHERE placement_id = $1 AND ended_at IS NULL`, placementID)
}

// TakeBackOverrides says that those of a rollout that stand end with the next
// renewal of their placements.
func (tx *Tx) TakeBackOverrides(ctx context.Context, rolloutID string) error {
	_, err := tx.exec(ctx, `
		UPDATE profile_override SET taken_back = $2 WHERE rollout_id = $1 AND ended_at IS NULL AND taken_back IS NULL`, rolloutID, micros(tx.Now))
	return thing{"profile overrides of rollout", rolloutID}.wrap(err)
}

// EndOverride records why the one at a placement stands no more; a Conflict if
// none does.
func (tx *Tx) EndOverride(ctx context.Context, placementID, why string) error {
	return tx.swap(ctx, thing{"standing profile override at placement", placementID}, `
		UPDATE profile_override SET ended_at = $2, ended_why = $3 WHERE placement_id = $1 AND ended_at IS NULL`, placementID, micros(tx.Now), why)
}
