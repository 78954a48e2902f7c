package store

import (
	"context"
	"time"
)

// NoticeKind says what a notice is about.
type NoticeKind string

// The kinds of change that owners are told of.
const (
	NoticeOfRollout NoticeKind = "rollout"
	NoticeOfTrust   NoticeKind = "trust"
)

// Notice is what the owner of a service is told of a change. It is written with
// what it tells of, and posted afterwards:
//
//	pending ──posted──▶ sent
//	   └──tried too often──▶ undelivered ──retry──▶ pending
type Notice struct {
	ID         string // the receiver tells repetitions by it
	Kind       NoticeKind
	ChangeID   string
	ChangeName string
	Event      string
	Service    string
	URL        string
	Body       []byte
	MadeAt     time.Time
	Tries      int
	NextAt     time.Time // when it is posted next; zero: not any more
	SentAt     time.Time
	GivenUpAt  time.Time
	LastError  string
}

const noticeColumns = `id, kind, change_id, change_name, event, service, url, body, made_at, tries, next_at, sent_at, given_up_at, last_error`

func (n *Notice) columns() []any {
	return []any{
		&n.ID, &n.Kind, &n.ChangeID, &n.ChangeName, &n.Event, &n.Service, &n.URL, &n.Body, moment{&n.MadeAt}, &n.Tries,
		moment{&n.NextAt}, moment{&n.SentAt}, moment{&n.GivenUpAt}, &n.LastError,
	}
}

// InsertNotice records a notice of now, to be posted at once.
func (tx *Tx) InsertNotice(ctx context.Context, n Notice) error {
	return tx.insert(ctx, thing{"notice", n.ID}, `
		INSERT INTO notice (`+noticeColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $9, NULL, NULL, '')`,
		n.ID, string(n.Kind), n.ChangeID, n.ChangeName, n.Event, n.Service, n.URL, string(n.Body), micros(tx.Now))
}

// Notice returns the notice of the id.
func (tx *Tx) Notice(ctx context.Context, id string) (Notice, error) {
	return one[Notice](ctx, tx, thing{"notice", id}, `SELECT `+noticeColumns+` FROM notice WHERE id = $1`, id)
}

// DueNotices returns what is to be posted now, the oldest first, at most limit.
// Of one change an owner learns in its order: what comes after a notice that is
// still pending waits for it.
func (tx *Tx) DueNotices(ctx context.Context, limit int) ([]Notice, error) {
	return list[Notice](ctx, tx, "notices that are due", `
		SELECT `+noticeColumns+` FROM notice n WHERE next_at IS NOT NULL AND next_at <= $1 AND NOT EXISTS (
			SELECT 1 FROM notice e WHERE e.change_id = n.change_id AND e.service = n.service AND e.next_at IS NOT NULL
				AND (e.made_at < n.made_at OR e.made_at = n.made_at AND e.id < n.id))
		ORDER BY next_at, id LIMIT $2`, micros(tx.Now), limit)
}

// TryNotice says that a notice is posted now, for the time after tries others;
// a Conflict if another server does so. If nobody says what came of it, it is
// due again at next.
func (tx *Tx) TryNotice(ctx context.Context, id string, tries int, next time.Time) error {
	return tx.swap(ctx, thing{"notice to post", id}, `
		UPDATE notice SET tries = tries + 1, next_at = $3 WHERE id = $1 AND tries = $2 AND next_at IS NOT NULL`, id, tries, micros(next))
}

// SentNotice records that a notice was taken; a Conflict if that was known.
func (tx *Tx) SentNotice(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"notice that was not sent", id}, `
		UPDATE notice SET sent_at = $2, next_at = NULL, given_up_at = NULL, last_error = '' WHERE id = $1 AND sent_at IS NULL`, id, micros(tx.Now))
}

// FailNotice records why a try, the last one so far, came to nothing, and when
// the next one is; zero: none, it is given up. A Conflict if something else came
// of it meanwhile.
func (tx *Tx) FailNotice(ctx context.Context, id string, tries int, why string, next time.Time) error {
	givenUp := any(nil)
	if next.IsZero() {
		givenUp = micros(tx.Now)
	}
	return tx.swap(ctx, thing{"notice that is tried", id}, `
		UPDATE notice SET last_error = $3, next_at = $4, given_up_at = $5 WHERE id = $1 AND tries = $2 AND next_at IS NOT NULL`,
		id, tries, why, micros(next), givenUp)
}

// RetryNotice lets a notice that was given up be posted once more from now on,
// to a URL; a Conflict if it is not given up.
func (tx *Tx) RetryNotice(ctx context.Context, id, url string) error {
	return tx.swap(ctx, thing{"undelivered notice", id}, `
		UPDATE notice SET url = $2, tries = 0, next_at = $3, given_up_at = NULL WHERE id = $1 AND given_up_at IS NOT NULL AND sent_at IS NULL`,
		id, url, micros(tx.Now))
}

// Notices returns the newest notices, at most limit; those that were taken only
// where sent is asked for.
func (tx *Tx) Notices(ctx context.Context, sent bool, limit int) ([]Notice, error) {
	return list[Notice](ctx, tx, "notices", `
		SELECT `+noticeColumns+` FROM notice WHERE sent_at IS NULL OR $1 ORDER BY made_at DESC, id DESC LIMIT $2`, sent, limit)
}

// ChangeNotices returns what is told of a change, the oldest first.
func (tx *Tx) ChangeNotices(ctx context.Context, changeID string) ([]Notice, error) {
	return list[Notice](ctx, tx, "notices of a change", `
		SELECT `+noticeColumns+` FROM notice WHERE change_id = $1 ORDER BY made_at, id`, changeID)
}

// oldNotices are those that were taken before $1. Those of a change that goes on
// stay: what its owners were told is among what it is decided by. So does what
// was never taken.
const oldNotices = `FROM notice n WHERE n.sent_at < $1
	AND NOT EXISTS (SELECT 1 FROM rollout r WHERE r.id = n.change_id AND r.ended_at IS NULL)
	AND NOT EXISTS (SELECT 1 FROM trust_change t WHERE t.id = n.change_id AND t.ended_at IS NULL)`

// PruneNotices forgets notices that were taken before then and whose change is
// over, at most limit, and returns how many.
func (tx *Tx) PruneNotices(ctx context.Context, before time.Time, limit int) (int, error) {
	rows, err := tx.exec(ctx, `
		DELETE FROM notice WHERE id IN (SELECT n.id `+oldNotices+` ORDER BY n.made_at, n.id LIMIT $2)`, micros(before), limit)
	return int(rows), thing{noun: "notices"}.wrap(err)
}

// OldNotices is how many PruneNotices would forget in all.
func (tx *Tx) OldNotices(ctx context.Context, before time.Time) (int, error) {
	return value[int](ctx, tx, thing{noun: "notices"}, `SELECT COUNT(*) `+oldNotices, micros(before))
}
