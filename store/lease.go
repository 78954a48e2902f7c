package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Lease is the right of one server to run a loop that runs once.
type Lease struct {
	Name    string
	Holder  string
	Fencing uint64 // raised whenever the holder changes or let it lapse
	EndsAt  time.Time
}

func (l *Lease) columns() []any { return []any{&l.Name, &l.Holder, &l.Fencing, moment{&l.EndsAt}} }

// TakeLease takes a lease that is free, or prolongs one's own, for a while from
// now. When another holds it, it is a Conflict. Who works under a lease passes
// its fencing number to CheckLease in each transaction.
func (tx *Tx) TakeLease(ctx context.Context, name, holder string, life time.Duration) (Lease, error) {
	what := thing{"free lease", name}
	err := tx.swap(ctx, what, `
		INSERT INTO lease (name, holder, fencing, ends_at) VALUES ($1, $2, 1, $4)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, ends_at = excluded.ends_at,
			fencing = lease.fencing + CASE WHEN lease.holder = $2 AND lease.ends_at > $3 THEN 0 ELSE 1 END
		WHERE lease.holder = $2 OR lease.ends_at <= $3`,
		name, holder, micros(tx.Now), micros(tx.Now.Add(life)))
	if err != nil {
		return Lease{}, err
	}
	return tx.Lease(ctx, name)
}

// Lease returns a lease, held or not; NotFound before it was ever taken.
func (tx *Tx) Lease(ctx context.Context, name string) (Lease, error) {
	return one[Lease](ctx, tx, thing{"lease", name}, `SELECT name, holder, fencing, ends_at FROM lease WHERE name = $1`, name)
}

// CheckLease says whether the lease is still the caller's.
func (tx *Tx) CheckLease(ctx context.Context, l Lease) error {
	held, err := tx.Lease(ctx, l.Name)
	if err != nil {
		return err
	}
	if held.Holder != l.Holder || held.Fencing != l.Fencing || !tx.Now.Before(held.EndsAt) {
		return fault.New(fault.Conflict, "lease %s with fencing number %d is lost", l.Name, l.Fencing)
	}
	return nil
}

// ReleaseLease gives a lease back before its end.
func (tx *Tx) ReleaseLease(ctx context.Context, l Lease) error {
	return tx.swap(ctx, thing{"lease", l.Name}, `
		UPDATE lease SET ends_at = $4 WHERE name = $1 AND holder = $2 AND fencing = $3`,
		l.Name, l.Holder, l.Fencing, micros(tx.Now))
}

// endLeases ends all leases: of a store that is this process's alone they are
// those of one that is dead.
func (tx *Tx) endLeases(ctx context.Context) error {
	_, err := tx.exec(ctx, `UPDATE lease SET ends_at = $1 WHERE ends_at > $1`, micros(tx.Now))
	return err
}
