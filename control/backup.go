package control

import (
	"context"
	"iter"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// CheckedCopy is what a copy of the store was found to be.
type CheckedCopy struct {
	store.Meta
	Entries uint64 // of the audit log, that the checkpoint covers
	Pending int    // of the audit log, committed and without an index yet

	Archives []archive.Manifest // of certificates that are not in the copy
}

// CheckCopy checks a copy of a store of the trust domain: every entry of its
// audit log hashes up to the checkpoint that the log's key signed last.
func CheckCopy(ctx context.Context, tx *store.Tx, domain string, verifier note.Verifier) (CheckedCopy, error) {
	var found CheckedCopy
	var err error
	if found.Meta, err = tx.Meta(ctx); err != nil {
		return found, err
	}
	if found.TrustDomain != domain {
		return found, fault.New(fault.Conflict, "the copy is of trust domain %q, not of %q", found.TrustDomain, domain).
			WithRemedy("name the state directory of the server that is to be backed up")
	}
	signed, err := tx.NewestCheckpoint(ctx)
	if err != nil || signed == nil {
		return found, err // a store whose log was never sequenced
	}
	checkpoint, err := audit.OpenCheckpoint(signed, audit.Origin(domain), verifier)
	if err != nil {
		return found, err
	}
	if checkpoint.Size != found.TreeSize {
		return found, fault.New(fault.Conflict, "the copy's audit log has %d entries, its newest checkpoint says %d", found.TreeSize, checkpoint.Size).
			WithRemedy("keep the store as it is; compare with an older copy and with what agents have witnessed")
	}
	found.Entries = checkpoint.Size
	if found.Pending, err = tx.CountPendingAuditEntries(ctx); err != nil {
		return found, err
	}
	if err := audit.VerifyLog(logContents(ctx, tx), checkpoint); err != nil {
		return found, err
	}
	found.Archives, err = Manifests(ctx, tx)
	return found, err
}

// logContents reads the log's entries, a page at a time.
func logContents(ctx context.Context, tx *store.Tx) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for from := uint64(0); ; {
			page, err := tx.AuditEntries(ctx, from, sequenceSlice)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, entry := range page {
				if !yield(entry.Content, nil) {
					return
				}
			}
			if len(page) < sequenceSlice {
				return
			}
			from += uint64(len(page))
		}
	}
}
