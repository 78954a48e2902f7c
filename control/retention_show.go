package control

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// mostArchived bounds how many archived certificates are shown at once.
const mostArchived = 5000

// ListArchivedCertificates finds certificates in archives. A file is believed
// once it has the hash that the audit log says; of others it is said what is
// wrong with them, and nothing in them is shown.
func (c *Control) ListArchivedCertificates(ctx context.Context, caller Caller, req *api.ListArchivedCertificatesRequest) (*api.ListArchivedCertificatesResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	wanted, err := archivedWanted(req)
	if err != nil {
		return nil, err
	}
	candidates, err := c.archivesFor(ctx, req.Serial)
	if err != nil {
		return nil, err
	}
	response := &api.ListArchivedCertificatesResponse{}
	for _, one := range candidates {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		response.Searched++
		packed, err := c.readArchive(&one)
		if err != nil {
			response.Damaged = append(response.Damaged, one.info)
			continue
		}
		err = archive.Unpack(packed, wanted.texts, func(r archive.Record) error {
			if wanted.matches(r) {
				response.Certificates = append(response.Certificates, archivedInfo(r, one.info))
			}
			return nil
		})
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "archive %s", one.info.File)
		}
		if response.More = len(response.Certificates) > mostArchived; response.More {
			response.Certificates = response.Certificates[:mostArchived]
			break
		}
	}
	slices.SortStableFunc(response.Certificates, func(a, b *api.ArchivedCertificate) int {
		return cmp.Or(a.NotAfter.AsTime().Compare(b.NotAfter.AsTime()), strings.Compare(a.Serial, b.Serial))
	})
	return response, nil
}

// archivedFilter is what is looked for: the texts stand in each line of it.
type archivedFilter struct {
	*api.ListArchivedCertificatesRequest
	texts []string
}

func archivedWanted(req *api.ListArchivedCertificatesRequest) (archivedFilter, error) {
	f := archivedFilter{ListArchivedCertificatesRequest: req}
	if req.Serial != "" {
		if _, err := pki.ParseSerial(req.Serial); err != nil {
			return f, err
		}
	}
	if req.Fingerprint != "" {
		if _, err := pki.ParseFingerprint(req.Fingerprint); err != nil {
			return f, err
		}
	}
	for _, text := range []string{req.Serial, req.Fingerprint, req.Placement, req.Intent} {
		if text != "" {
			f.texts = append(f.texts, text)
		}
	}
	if len(f.texts) == 0 {
		return f, fault.New(fault.Invalid, "archived certificates are found by something that is known of them").
			WithRemedy("say --serial, --fingerprint, --placement or --intent")
	}
	return f, nil
}

func (f archivedFilter) matches(r archive.Record) bool {
	return (f.Serial == "" || r.Serial == f.Serial) && (f.Fingerprint == "" || r.Fingerprint == f.Fingerprint) &&
		(f.Placement == "" || r.Placement == f.Placement) && (f.Intent == "" || r.Intent == f.Intent)
}

// shownArchive is an archive, with its manifest where the audit log has it.
type shownArchive struct {
	info     *api.ArchiveInfo
	manifest archive.Manifest
	err      error
}

// archivesFor are the archives to look into: with a serial, the one that has it.
func (c *Control) archivesFor(ctx context.Context, serial string) ([]shownArchive, error) {
	var found []shownArchive
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		all, err := tx.Archives(ctx)
		if serial != "" {
			parsed, _ := pki.ParseSerial(serial) // it was read before
			one, missing := tx.ArchiveOf(ctx, parsed)
			if all, err = []store.Archive{one}, ignoreMissing(missing); fault.CodeOf(missing) == fault.NotFound {
				all = nil
			}
		}
		for _, one := range all {
			shown := shownArchive{info: &api.ArchiveInfo{
				File: one.File, Bytes: one.Bytes, Count: int64(one.Count), AuditId: one.EntryID, ArchivedAt: stamp(one.At),
				FirstNotAfter: stamp(one.FirstNotAfter), LastNotAfter: stamp(one.LastNotAfter),
			}}
			shown.manifest, shown.err = c.manifestOf(ctx, tx, one)
			shown.info.Sha256 = shown.manifest.SHA256
			found = append(found, shown)
		}
		return err
	})
	return found, err
}

// readArchive reads a file that is what its manifest says, and notes what it was
// found to be.
func (c *Control) readArchive(one *shownArchive) ([]byte, error) {
	if one.err != nil {
		return nil, noteDamage(one.info, one.err)
	}
	packed, err := c.archive.Read(one.manifest)
	if err != nil {
		return nil, noteDamage(one.info, err)
	}
	one.info.State = "whole"
	return packed, nil
}

func noteDamage(info *api.ArchiveInfo, err error) error {
	info.State, info.Problem = "altered", fault.Public(err)
	if fault.CodeOf(err) == fault.NotFound {
		info.State = "missing"
	}
	return err
}

// sizeArchive looks whether a file is there, and as large as it should be.
func (c *Control) sizeArchive(one *shownArchive) error {
	size, err := c.archive.Size(one.info.File)
	if err == nil && size != one.info.Bytes {
		err = fault.New(fault.Conflict, "archive %s has %d bytes, it was written with %d", one.info.File, size, one.info.Bytes).
			WithRemedy("keep it aside, and put the right one back from a backup")
	}
	if err != nil {
		return noteDamage(one.info, err)
	}
	one.info.State = "there"
	return nil
}

func archivedInfo(r archive.Record, of *api.ArchiveInfo) *api.ArchivedCertificate {
	return &api.ArchivedCertificate{
		Serial: r.Serial, Kind: r.Kind, Subject: r.Names, Intent: r.Intent, Agent: r.Agent, Operator: r.Operator,
		Placement: r.Placement, Generation: r.Generation, Authority: r.Authority, Rule: r.Rule,
		NotBefore: stamp(r.NotBefore), NotAfter: stamp(r.NotAfter), IssuedAt: stamp(r.IssuedAt),
		RevokedAt: stamp(r.RevokedAt), RevocationReason: r.Reason,
		Fingerprint: r.Fingerprint, Spki: r.SPKI, Der: r.DER, File: of.File, AuditId: of.AuditId,
	}
}

// RetentionStatus shows what is kept for how long, and how the archives stand.
func (c *Control) RetentionStatus(ctx context.Context, caller Caller, req *api.RetentionStatusRequest) (*api.RetentionStatusResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	return c.retentionStatus(ctx, req.Verify)
}

func (c *Control) retentionStatus(ctx context.Context, verify bool) (*api.RetentionStatusResponse, error) {
	keep := c.retention
	response := &api.RetentionStatusResponse{
		Certificates: keptFor(keep.Certificates), Evidence: keptFor(keep.Evidence),
		Notices: keptFor(keep.Notices), Checkpoints: keptFor(keep.Checkpoints), Directory: string(c.archive),
	}
	all, err := c.archivesFor(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		response.Archives++
		response.ArchivedCertificates += one.info.Count
		response.ArchivedBytes += one.info.Bytes
		var err error
		if verify {
			_, err = c.readArchive(&one)
		} else if err = c.sizeArchive(&one); err == nil && one.err != nil {
			err = noteDamage(one.info, one.err)
		}
		if err != nil {
			response.Damaged = append(response.Damaged, one.info)
		}
	}
	if response.Strays, err = c.strays(ctx); err != nil {
		return nil, err
	}
	last, err := c.LastPass()
	if !last.At.IsZero() {
		response.Last = passWire(last)
	}
	if err != nil {
		response.LastError = fault.Public(err)
	}
	return response, nil
}

// ArchiveFigures sums up the archives, and counts those whose files are missing
// or not as large as they were written.
func (c *Control) ArchiveFigures(ctx context.Context) (totals store.ArchiveTotals, damaged int, err error) {
	var all []store.Archive
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		if totals, err = tx.ArchiveTotals(ctx); err != nil {
			return err
		}
		all, err = tx.Archives(ctx)
		return err
	})
	for _, one := range all {
		if size, bad := c.archive.Size(one.File); bad != nil || size != one.Bytes {
			damaged++
		}
	}
	return totals, damaged, err
}

func keptFor(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func passWire(p Pass) *api.RetentionPass {
	wire := &api.RetentionPass{
		At: stamp(p.At), Certificates: int64(p.Certificates), Adopted: int64(p.Adopted), StraysRemoved: int64(p.Strays),
		Evidence: int64(p.Evidence), Notices: int64(p.Notices), Checkpoints: int64(p.Checkpoints),
	}
	for _, one := range p.Archives {
		wire.Archives = append(wire.Archives, one.File)
	}
	return wire
}

// RunRetention makes a pass now, or says what one would do.
func (c *Control) RunRetention(ctx context.Context, caller Caller, req *api.RunRetentionRequest) (*api.RunRetentionResponse, error) {
	if err := authorize(caller, "retention.run"); err != nil {
		return nil, err
	}
	if req.DryRun {
		pass, err := c.foresee(ctx)
		return &api.RunRetentionResponse{Pass: passWire(pass)}, err
	}
	if words, err := c.RolledBack(ctx); err != nil || words != "" {
		return nil, cmp.Or(err, error(fault.New(fault.Unavailable, "%s: nothing is archived", words).WithRemedy("on the server's host: rotunda restore")))
	}
	pass, err := c.retain(ctx, caller)
	if err != nil {
		return nil, err
	}
	return &api.RunRetentionResponse{Pass: passWire(pass)}, nil
}

// foresee counts what a pass would take, and changes nothing.
func (c *Control) foresee(ctx context.Context) (Pass, error) {
	r := &retainer{c: c, pass: Pass{At: c.now()}}
	if before, on := r.archiveBefore(); on {
		err := c.eachArchivable(ctx, before, func(records []store.Certificate) error {
			r.pass.Certificates += len(records)
			return nil
		})
		if err != nil {
			return r.pass, err
		}
	}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		for _, h := range r.histories() {
			if h.keep == 0 {
				continue
			}
			n, err := h.old(tx, ctx, r.pass.At.Add(-h.keep))
			if *h.count = n; err != nil {
				return err
			}
		}
		return nil
	})
	return r.pass, err
}
