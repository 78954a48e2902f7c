package control

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/store"
)

// handshakeKind is the kind of all evidence so far: what one handshake showed.
const handshakeKind = "handshake"

// readEvidence checks that the calling agent signed the evidence, and reads
// what it observed.
func readEvidence(ctx context.Context, tx *store.Tx, caller Caller, evidence *api.Evidence) (probe.Observation, error) {
	var seen probe.Observation
	if err := vouched(ctx, tx, caller.ID, evidence); err != nil {
		return seen, err
	}
	if err := json.Unmarshal(evidence.Statement, &seen); err != nil {
		return seen, fault.Wrap(fault.Invalid, err, "the statement is no observation")
	}
	if seen.Observer != "" && seen.Observer != caller.ID {
		return seen, fault.New(fault.Invalid, "the statement is by observer %s", printable(seen.Observer))
	}
	return seen, nil
}

// storeEvidence keeps one observation in its exact bytes, as history where an
// audit entry cites it. It is dated no later than now: a clock that was ahead
// must not keep later evidence out.
func storeEvidence(ctx context.Context, tx *store.Tx, caller Caller, placementID string, evidence *api.Evidence, seen probe.Observation, cited bool) error {
	at := seen.Time.UTC().Truncate(time.Microsecond)
	if at.After(tx.Now) {
		at = tx.Now
	}
	return tx.PutEvidence(ctx, store.Evidence{
		Digest: evidenceDigest(evidence), PlacementID: placementID, Observer: caller.ID, Kind: handshakeKind,
		Verdict: short(string(seen.Outcome)), Statement: evidence.Statement, Signature: evidence.Signature, At: at, Keep: cited,
	})
}

// evidenceDigest names evidence; empty where there is none.
func evidenceDigest(evidence *api.Evidence) string {
	if evidence == nil {
		return ""
	}
	digest := sha256.Sum256(evidence.Statement)
	return hex.EncodeToString(digest[:])
}

// shows says whether the observation is of a process that serves this very
// certificate and holds its key.
func shows(seen *probe.Observation, leaf store.Certificate) bool {
	return seen != nil && seen.Outcome == probe.Served && seen.Leaf != nil && seen.Leaf.Fingerprint == leaf.Fingerprint.String()
}

// vouched checks that one of the agent's own keys signed the evidence: the
// newest, or one before it where a renewal overtook the report.
func vouched(ctx context.Context, tx *store.Tx, agentID string, evidence *api.Evidence) error {
	identities, err := tx.AgentIdentities(ctx, agentID)
	if err != nil {
		return err
	}
	for _, identity := range identities {
		if !identity.RevokedAt.IsZero() || identity.NotAfter.Before(tx.Now) {
			continue
		}
		certificate, err := x509.ParseCertificate(identity.DER)
		if err != nil {
			return fault.Wrap(fault.Internal, err, "recorded certificate %s", identity.Serial)
		}
		if pki.VerifyStatement(certificate.PublicKey, evidence.Statement, evidence.Signature) {
			return nil
		}
	}
	return fault.New(fault.Invalid, "the signature is by none of the agent's keys")
}
