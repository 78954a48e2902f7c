package control

import (
	"context"
	"encoding/json"

	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// manifestDetail is a manifest as it stands in its audit entry.
func manifestDetail(m archive.Manifest) map[string]any {
	return map[string]any{
		"file": m.File, "sha256": m.SHA256, "bytes": m.Bytes, "count": m.Count,
		"firstSerial": m.FirstSerial, "lastSerial": m.LastSerial,
		"firstNotAfter": m.FirstNotAfter, "lastNotAfter": m.LastNotAfter,
	}
}

// manifestOf reads the manifest of an archive from the audit log: the entry must
// be in the tree that the log's key signed, unless it is a moment old and has no
// place there yet.
func (c *Control) manifestOf(ctx context.Context, tx *store.Tx, of store.Archive) (archive.Manifest, error) {
	record, err := tx.AuditEntryByID(ctx, of.EntryID)
	if err != nil {
		return archive.Manifest{}, err
	}
	if audit.LeafHash(record.Content) != record.LeafHash {
		return archive.Manifest{}, badManifest(of, "was altered")
	}
	if !record.Pending {
		size, signed, err := c.sizeOrNewest(ctx, tx, 0)
		if err != nil {
			return archive.Manifest{}, err
		}
		checkpoint, err := audit.OpenCheckpoint(signed, c.Origin(), c.logVerifier)
		if err != nil {
			return archive.Manifest{}, err
		}
		proof, err := audit.ProveInclusion(record.Index, size, tx.AuditTiles(ctx))
		if err != nil || audit.CheckInclusion(proof, record.Index, record.LeafHash, checkpoint) != nil {
			return archive.Manifest{}, badManifest(of, "is not in the log")
		}
	}
	return readManifest(of, record)
}

// readManifest is what an entry says of an archive.
func readManifest(of store.Archive, record store.AuditEntry) (archive.Manifest, error) {
	entry, err := audit.Decode(record.Content)
	if err != nil || entry.Verb != verbArchive || entry.Object != "Archive/"+of.File {
		return archive.Manifest{}, badManifest(of, "is of something else")
	}
	var m archive.Manifest
	text, err := json.Marshal(entry.Detail)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil || m.File != of.File {
		return archive.Manifest{}, badManifest(of, "holds no manifest of it")
	}
	return m, nil
}

func badManifest(of store.Archive, why string) error {
	return fault.New(fault.Conflict, "archive %s: audit entry %s %s", of.File, of.EntryID, why).
		WithRemedy("rotunda audit verify; keep the store as it is")
}

// Manifests are those of all archives that a store knows, whose log was checked.
func Manifests(ctx context.Context, tx *store.Tx) ([]archive.Manifest, error) {
	all, err := tx.Archives(ctx)
	var manifests []archive.Manifest
	for _, one := range all {
		record, err := tx.AuditEntryByID(ctx, one.EntryID)
		if err != nil {
			return nil, err
		}
		m, err := readManifest(one, record)
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, m)
	}
	return manifests, err
}

func archivedRecord(record store.Certificate) archive.Record {
	return archive.Record{
		Serial: record.Serial.String(), Kind: string(record.Kind), Authority: record.AuthorityID,
		Placement: record.PlacementID, Generation: record.Generation, Agent: record.AgentID, Operator: record.Operator,
		Intent: record.Intent, Names: record.Names, PolicyInput: record.PolicyInput, Rule: record.Rule,
		SPKI: record.SPKI.String(), Fingerprint: record.Fingerprint.String(), CRLShard: record.CRLShard,
		NotBefore: record.NotBefore, NotAfter: record.NotAfter, IssuedAt: record.IssuedAt,
		RevokedAt: record.RevokedAt, Reason: record.Reason, DER: record.DER,
	}
}

func storedRecord(line archive.Record) (store.Certificate, error) {
	record := store.Certificate{
		Kind: store.CertificateKind(line.Kind), AuthorityID: line.Authority,
		PlacementID: line.Placement, Generation: line.Generation, AgentID: line.Agent, Operator: line.Operator,
		Intent: line.Intent, Names: line.Names, PolicyInput: line.PolicyInput, Rule: line.Rule, CRLShard: line.CRLShard,
		NotBefore: line.NotBefore, NotAfter: line.NotAfter, IssuedAt: line.IssuedAt,
		RevokedAt: line.RevokedAt, Reason: line.Reason, DER: line.DER,
	}
	var err error
	if record.Serial, err = pki.ParseSerial(line.Serial); err != nil {
		return record, err
	}
	if record.SPKI, err = pki.ParseSPKIHash(line.SPKI); err != nil {
		return record, err
	}
	record.Fingerprint, err = pki.ParseFingerprint(line.Fingerprint)
	return record, err
}
