package store

import (
	"bytes"
	"context"
	"sort"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Archive is a file that records of certificates have gone to. What it must be,
// to the byte, its audit entry says.
type Archive struct {
	File          string
	EntryID       string
	Bytes         int64
	Count         int
	FirstNotAfter time.Time
	LastNotAfter  time.Time
	At            time.Time
}

const archiveColumns = `file, entry_id, bytes, count, first_not_after, last_not_after, at`

func (a *Archive) columns() []any {
	return []any{&a.File, &a.EntryID, &a.Bytes, &a.Count, moment{&a.FirstNotAfter}, moment{&a.LastNotAfter}, moment{&a.At}}
}

// archivable are the certificates whose records nothing here rests on any more.
// They ended before $1, and none of these holds of them:
//   - a list has yet to say that they were revoked, or were on hold;
//   - an open revocation, one of an open compromise, an emergency credential or a staple names them, or,
//     of a server's, any revocation: agents connect anew when the newest of
//     those changes;
//   - of a placement's, it is the one in use as its agent last reported, or the
//     newest;
//   - of an agent's identities, it is the newest, or one that the agent may
//     still have: it has not called since it ended;
//   - of operators, servers and responders, it is the newest of its name;
//   - it is an authority's.
//
// That a list has them no more is for the caller to see.
const archivable = `c.not_after < $1
	AND NOT EXISTS (SELECT 1 FROM crl_pending q WHERE q.serial = c.serial)
	AND NOT EXISTS (SELECT 1 FROM staple s WHERE s.serial = c.serial)
	AND NOT EXISTS (SELECT 1 FROM emergency_credential e WHERE e.serial = c.serial)
	AND NOT EXISTS (SELECT 1 FROM revocation_part t JOIN revocation r ON r.id = t.revocation_id
		WHERE t.serial = c.serial AND (r.ended_at IS NULL OR c.kind = 'server'
			OR EXISTS (SELECT 1 FROM compromise k WHERE k.revocation_id = r.id AND k.ended_at IS NULL)))
	AND (c.kind = 'canary'
		OR c.kind = 'leaf' AND (c.placement_id IS NULL
			OR c.generation < (SELECT p.generation FROM placement p WHERE p.id = c.placement_id)
			AND c.generation < (SELECT MAX(n.generation) FROM certificate n WHERE n.placement_id = c.placement_id))
		OR c.kind = 'agent'
			AND EXISTS (SELECT 1 FROM agent a WHERE a.id = c.agent_id AND (a.state = 'retired' OR a.seen_at > c.not_after))
			AND EXISTS (SELECT 1 FROM certificate n WHERE n.agent_id = c.agent_id AND n.kind = 'agent' AND n.placement_id IS NULL
				AND (n.issued_at > c.issued_at OR n.issued_at = c.issued_at AND n.serial > c.serial))
		OR c.kind = 'operator' AND EXISTS (SELECT 1 FROM certificate n WHERE n.kind = 'operator' AND n.operator = c.operator
				AND (n.issued_at > c.issued_at OR n.issued_at = c.issued_at AND n.serial > c.serial))
		OR c.kind IN ('server', 'responder') AND EXISTS (SELECT 1 FROM certificate n
			WHERE n.kind = c.kind AND n.names = c.names AND n.authority_id = c.authority_id
				AND (n.issued_at > c.issued_at OR n.issued_at = c.issued_at AND n.serial > c.serial)))`

// ArchivableCertificates returns certificates that ended before then and that
// may go, but for what lists still name: those that ended first in front, after
// the one given; at most limit.
func (tx *Tx) ArchivableCertificates(ctx context.Context, before time.Time, after Certificate, limit int) ([]Certificate, error) {
	return list[Certificate](ctx, tx, "certificates to be archived", `
		SELECT `+certificateColumns+` FROM certificate c
		WHERE (c.not_after > $2 OR c.not_after = $2 AND c.serial > $3) AND `+archivable+`
		ORDER BY c.not_after, c.serial LIMIT $4`, micros(before), after.NotAfter.UnixMicro(), after.Serial[:], limit)
}

// ArchiveCertificate takes a record out of the store, which must be what the
// archive has, and about which nothing may have changed; else it is a Conflict.
func (tx *Tx) ArchiveCertificate(ctx context.Context, c Certificate, before time.Time) error {
	err := tx.swap(ctx, thing{"certificate to be archived", c.Serial}, `
		DELETE FROM certificate WHERE serial IN (SELECT c.serial FROM certificate c
			WHERE c.serial = $2 AND c.fingerprint = $3 AND COALESCE(c.revoked_at, 0) = $4 AND c.reason = $5
				AND COALESCE(c.placement_id, '') = $6 AND COALESCE(c.generation, 0) = $7 AND `+archivable+`)`,
		micros(before), c.Serial[:], c.Fingerprint[:], orZero(c.RevokedAt), c.Reason, c.PlacementID, c.Generation)
	if err != nil || c.PlacementID == "" {
		return err
	}
	_, err = tx.exec(ctx, `
		UPDATE placement SET archived_through = $2 WHERE id = $1 AND archived_through < $2`, c.PlacementID, c.Generation)
	return thing{"placement", c.PlacementID}.wrap(err)
}

// orZero is a time as a number that can be compared; the zero time is 0.
func orZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// ArchivedThrough is up to which generation certificates of a placement may lie
// in archives; 0: none do.
func (tx *Tx) ArchivedThrough(ctx context.Context, placementID string) (uint64, error) {
	return value[uint64](ctx, tx, thing{"placement", placementID}, `SELECT archived_through FROM placement WHERE id = $1`, placementID)
}

// InsertArchive records a file, with the serials that it holds.
func (tx *Tx) InsertArchive(ctx context.Context, a Archive, serials []pki.Serial) error {
	sort.Slice(serials, func(i, j int) bool { return bytes.Compare(serials[i][:], serials[j][:]) < 0 })
	var all []byte
	for _, serial := range serials {
		all = append(all, serial[:]...)
	}
	return tx.insert(ctx, thing{"archive", a.File}, `
		INSERT INTO archive (`+archiveColumns+`, first_serial, last_serial, serials) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		a.File, a.EntryID, a.Bytes, len(serials), micros(a.FirstNotAfter), micros(a.LastNotAfter), micros(tx.Now),
		serials[0][:], serials[len(serials)-1][:], all)
}

// Archive returns the one of the file.
func (tx *Tx) Archive(ctx context.Context, file string) (Archive, error) {
	return one[Archive](ctx, tx, thing{"archive", file}, `SELECT `+archiveColumns+` FROM archive WHERE file = $1`, file)
}

// Archives returns all archives, those whose certificates ended first in front.
func (tx *Tx) Archives(ctx context.Context) ([]Archive, error) {
	return list[Archive](ctx, tx, "archives", `SELECT `+archiveColumns+` FROM archive ORDER BY first_not_after, file`)
}

// holding is an archive with the serials that it holds.
type holding struct {
	Archive
	serials []byte
}

func (h *holding) columns() []any { return append(h.Archive.columns(), &h.serials) }

func (h *holding) has(serial pki.Serial) bool {
	const size = len(serial)
	n := len(h.serials) / size
	at := sort.Search(n, func(i int) bool { return bytes.Compare(h.serials[i*size:(i+1)*size], serial[:]) >= 0 })
	return at < n && bytes.Equal(h.serials[at*size:(at+1)*size], serial[:])
}

// ArchiveOf returns the archive that has the certificate of a serial; NotFound
// where none has.
func (tx *Tx) ArchiveOf(ctx context.Context, serial pki.Serial) (Archive, error) {
	near, err := list[holding](ctx, tx, "archives", `
		SELECT `+archiveColumns+`, serials FROM archive WHERE first_serial <= $1 AND last_serial >= $1 ORDER BY file`, serial[:])
	for _, one := range near {
		if one.has(serial) {
			return one.Archive, nil
		}
	}
	if err != nil {
		return Archive{}, err
	}
	return Archive{}, thing{"archived certificate", serial}.missing()
}

// IsArchived says whether a certificate of the serial is in an archive.
func (tx *Tx) IsArchived(ctx context.Context, serial pki.Serial) (bool, error) {
	_, err := tx.ArchiveOf(ctx, serial)
	if fault.CodeOf(err) == fault.NotFound {
		return false, nil
	}
	return err == nil, err
}

// ArchiveTotals is what lies in archives.
type ArchiveTotals struct {
	Archives, Certificates, Bytes int64
	LastAt                        time.Time
}

func (t *ArchiveTotals) columns() []any {
	return []any{&t.Archives, &t.Certificates, &t.Bytes, moment{&t.LastAt}}
}

// ArchiveTotals sums up the archives.
func (tx *Tx) ArchiveTotals(ctx context.Context) (ArchiveTotals, error) {
	return one[ArchiveTotals](ctx, tx, thing{noun: "archives"}, `
		SELECT COUNT(*), COALESCE(SUM(count), 0), COALESCE(SUM(bytes), 0), MAX(at) FROM archive`)
}
