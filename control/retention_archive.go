package control

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// archiveBatch bounds how many records one transaction takes out: whoever
// issues waits for it.
const archiveBatch = 250

// verbArchive is of the entries that hold manifests.
const verbArchive = "certificate.archive"

// batch is a file and the records that it holds.
type batch struct {
	archive.Manifest
	packed  []byte
	records []store.Certificate
}

// archiveCertificates moves what ended long ago out of the store.
func (r *retainer) archiveCertificates(ctx context.Context) error {
	c := r.c
	before, on := r.archiveBefore()
	if !on {
		return nil
	}
	if err := c.archive.Sweep(); err != nil {
		return err
	}
	if err := r.adoptStrays(ctx, before); err != nil {
		return err
	}
	return c.eachArchivable(ctx, before, func(records []store.Certificate) error {
		b, err := c.writeArchive(records)
		if err != nil {
			return err
		}
		return r.commitArchive(ctx, b, before)
	})
}

// archiveBefore is when certificates must have ended to be archived: by whole
// days (UTC), so that what ends in the course of one goes together.
func (r *retainer) archiveBefore() (time.Time, bool) {
	keep := r.c.retention.Certificates
	return r.pass.At.UTC().Add(-keep).Truncate(24 * time.Hour), keep > 0 && r.c.archive != ""
}

// eachArchivable calls visit with batches of what may go.
func (c *Control) eachArchivable(ctx context.Context, before time.Time, visit func([]store.Certificate) error) error {
	var after store.Certificate
	for {
		var page, free []store.Certificate
		err := c.db.Read(ctx, func(tx *store.Tx) error {
			var err error
			if page, err = tx.ArchivableCertificates(ctx, before, after, archiveBatch); err != nil {
				return err
			}
			free, err = unlisted(ctx, tx, page)
			return err
		})
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1]
		if len(free) == 0 {
			continue
		}
		if err := visit(free); err != nil {
			return err
		}
	}
}

// unlisted are the records that stand on no list: what was revoked stays on one
// beyond its end, and on the last lists of an authority for good. What is on no
// list and not pending comes on one only with a change of its row.
func unlisted(ctx context.Context, tx *store.Tx, records []store.Certificate) ([]store.Certificate, error) {
	type list struct {
		authority string
		shard     int
	}
	lists := map[list]map[pki.Serial]bool{}
	listed := func(record store.Certificate) (bool, error) {
		for _, of := range []list{{record.AuthorityID, record.CRLShard}, {record.AuthorityID, ca.WholeList}} {
			if lists[of] == nil {
				stored, err := tx.CRL(ctx, of.authority, of.shard)
				if ignoreMissing(err) != nil {
					return false, err
				}
				entries, err := ca.ReadEntries(of.shard, stored.Entries, stored.Ends)
				if err != nil {
					return false, err
				}
				lists[of] = entries.Serials()
			}
			if lists[of][record.Serial] {
				return true, nil
			}
		}
		return false, nil
	}
	var free []store.Certificate
	for _, record := range records {
		on, err := listed(record)
		if err != nil {
			return nil, err
		}
		if !on {
			free = append(free, record)
		}
	}
	return free, nil
}

// writeArchive makes the file durable. Nothing knows of it yet.
func (c *Control) writeArchive(records []store.Certificate) (batch, error) {
	lines := make([]archive.Record, len(records))
	for i, record := range records {
		lines[i] = archivedRecord(record)
	}
	manifest, packed, err := archive.Pack(lines)
	if err != nil {
		return batch{}, err
	}
	return batch{manifest, packed, records}, c.archive.Put(manifest, packed)
}

// commitArchive takes the records out and enters the manifest: one transaction.
// Where a record is not any more what the file has, nothing is changed, and the
// file is a stray.
func (r *retainer) commitArchive(ctx context.Context, b batch, before time.Time) error {
	err := r.change(ctx, func(tx *store.Tx) error {
		serials := make([]pki.Serial, len(b.records))
		for i, record := range b.records {
			if err := tx.ArchiveCertificate(ctx, record, before); err != nil {
				return err
			}
			serials[i] = record.Serial
		}
		id, err := done(ctx, tx, r.caller, verbArchive, "Archive/"+b.File, manifestDetail(b.Manifest))
		if err != nil {
			return err
		}
		return tx.InsertArchive(ctx, store.Archive{
			File: b.File, EntryID: id, Bytes: b.Bytes, FirstNotAfter: b.FirstNotAfter, LastNotAfter: b.LastNotAfter,
		}, serials)
	})
	if err == nil {
		r.pass.Certificates += len(b.records)
		r.pass.Archives = append(r.pass.Archives, b.Manifest)
	}
	return err
}

// adoptStrays looks at files that no manifest is known of: a pass that was cut
// off left them, or the store is an older one than they are. One whose records
// may all go now becomes the archive that it was to be. One whose records are all
// here, or in archives that are whole, is of no use and is removed. Any other
// holds what nothing else holds, and stays.
func (r *retainer) adoptStrays(ctx context.Context, before time.Time) error {
	strays, err := r.c.strays(ctx)
	for _, name := range strays {
		manifest, lines, bad := r.c.archive.Stray(name)
		if bad != nil {
			r.c.log.Warn("a file among the archives is none", "file", name, "error", bad)
			continue
		}
		records := make([]store.Certificate, len(lines))
		for i, line := range lines {
			if records[i], bad = storedRecord(line); bad != nil {
				break
			}
		}
		if bad != nil {
			r.c.log.Warn("a file among the archives is none", "file", name, "error", bad)
			continue
		}
		if err := r.adopt(ctx, batch{Manifest: manifest, records: records}, before); err != nil {
			return err
		}
	}
	return err
}

func (r *retainer) adopt(ctx context.Context, b batch, before time.Time) error {
	var free []store.Certificate
	same := true
	err := r.c.db.Read(ctx, func(tx *store.Tx) error {
		for _, record := range b.records {
			now, err := tx.Certificate(ctx, record.Serial)
			if ignoreMissing(err) != nil {
				return err
			}
			same = same && err == nil && archivedRecord(now).Same(archivedRecord(record))
		}
		var err error
		free, err = unlisted(ctx, tx, b.records)
		return err
	})
	if err != nil {
		return err
	}
	if same && len(free) == len(b.records) {
		err := r.commitArchive(ctx, b, before)
		if err == nil {
			r.pass.Adopted++
			return nil
		}
		if fault.CodeOf(err) != fault.Conflict {
			return err
		}
	}
	useless, err := r.c.heldElsewhere(ctx, b)
	if err != nil || !useless {
		return err
	}
	r.pass.Strays++
	return r.c.archive.Remove(b.File)
}

// heldElsewhere says whether each record of a file is in the store, or in an
// archive that is whole.
func (c *Control) heldElsewhere(ctx context.Context, b batch) (bool, error) {
	within := map[string]archive.Manifest{}
	all := true
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		for _, record := range b.records {
			now, err := tx.Certificate(ctx, record.Serial)
			if err == nil {
				all = all && now.Fingerprint == record.Fingerprint
				continue
			}
			if fault.CodeOf(err) != fault.NotFound {
				return err
			}
			of, err := tx.ArchiveOf(ctx, record.Serial)
			if fault.CodeOf(err) == fault.NotFound {
				all = false
				return nil
			}
			if err != nil {
				return err
			}
			if _, known := within[of.File]; known {
				continue
			}
			if within[of.File], err = c.manifestOf(ctx, tx, of); err != nil {
				return err
			}
		}
		return nil
	})
	for _, manifest := range within {
		if _, bad := c.archive.Read(manifest); bad != nil {
			all = false
		}
	}
	return all && err == nil, err
}

// strays are the files of which the store knows nothing.
func (c *Control) strays(ctx context.Context) ([]string, error) {
	if c.archive == "" {
		return nil, nil
	}
	names, err := c.archive.Names()
	if err != nil {
		return nil, err
	}
	var strays []string
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		for _, name := range names {
			_, err := tx.Archive(ctx, name)
			if fault.CodeOf(err) == fault.NotFound {
				strays = append(strays, name)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	return strays, err
}
