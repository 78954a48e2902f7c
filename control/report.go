package control

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// presenceWriteEvery bounds how often a quiet agent's presence is written.
const presenceWriteEvery = 10 * time.Minute

// Connect admits an agent's stream. Its boot counter must be higher than that
// of every stream before: an equal or lower one is a clone of the agent's
// state on another host, or an old copy of it.
//
// leave must be called when the stream ends.
func (c *Control) Connect(ctx context.Context, caller Caller, hello *api.Hello) (leave func(), err error) {
	if err := authorize(caller, "agent.connect"); err != nil {
		return nil, err
	}
	err = c.db.Write(ctx, func(tx *store.Tx) error {
		agent, err := activeAgent(ctx, tx, caller.ID)
		if err != nil {
			return err
		}
		if hello.Boot <= agent.Boot {
			return fault.New(fault.Conflict, "agent %s connects with boot counter %d, it had %d already: its state runs twice, or an old copy of it was restored",
				caller.ID, hello.Boot, agent.Boot).
				WithRemedy("stop the copy; then rotunda agent rejoin %s", caller.ID)
		}
		return tx.SetAgentBoot(ctx, caller.ID, agent.Boot, hello.Boot, facts(hello.Facts))
	})
	if fault.CodeOf(err) == fault.Conflict {
		return nil, c.refused(ctx, caller, "agent.connect", "Agent/"+caller.ID, err)
	}
	if err != nil {
		return nil, err
	}
	c.presence.join(caller.ID, hello.Boot)
	c.watchers.wakeAgents(caller.ID)
	return func() {
		c.presence.leave(caller.ID, hello.Boot)
		c.watchers.wakeAgents()
	}, nil
}

// Report takes what an agent observes. Facts of placements are stored with
// their evidence; what only says "still here" stays in memory.
func (c *Control) Report(ctx context.Context, caller Caller, report *api.AgentReport) error {
	if err := authorize(caller, "agent.report"); err != nil {
		return err
	}
	c.notePresence(caller, report)
	if len(report.Placements) == 0 {
		return c.writePresence(ctx, caller)
	}
	failed := false
	err := c.db.Write(ctx, func(tx *store.Tx) error {
		failed = false
		for _, placement := range report.Placements {
			news, err := c.storeReport(ctx, tx, caller, placement)
			if err != nil {
				return err
			}
			failed = failed || news
		}
		return tx.SetAgentSeen(ctx, caller.ID)
	})
	if failed { // or healed: the breaker of other agents' placements moves
		c.watchers.wakeEverybody()
	} else {
		c.watchers.wakeAgents()
	}
	return err
}

func (c *Control) notePresence(caller Caller, report *api.AgentReport) {
	var offset time.Duration
	if report.AgentTime != nil {
		offset = report.AgentTime.AsTime().Sub(c.now())
	}
	before, _ := c.presence.of(caller.ID)
	c.presence.note(caller.ID, offset, report.Alarm)
	if report.Alarm != "" && report.Alarm != before.alarm {
		c.log.Warn("agent raises an alarm", "agent", caller.ID, "alarm", report.Alarm)
	}
}

func (c *Control) writePresence(ctx context.Context, caller Caller) error {
	var seen time.Time
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		agent, err := tx.Agent(ctx, caller.ID)
		seen = agent.SeenAt
		return err
	})
	if err != nil || c.now().Sub(seen) < presenceWriteEvery {
		return err
	}
	return c.db.Write(ctx, func(tx *store.Tx) error { return tx.SetAgentSeen(ctx, caller.ID) })
}

// storeReport stores one placement's facts. It returns whether the breaker of
// the intent may have moved.
func (c *Control) storeReport(ctx context.Context, tx *store.Tx, caller Caller, report *api.PlacementReport) (bool, error) {
	placement, err := tx.Placement(ctx, report.PlacementId)
	if err != nil {
		return false, err
	}
	if placement.AgentID != caller.ID {
		return false, fault.New(fault.Forbidden, "placement %s is not of agent %s", placement.ID, caller.ID)
	}
	before, err := storedReport(placement)
	if err != nil {
		return false, err
	}
	digest := ""
	if report.Evidence != nil {
		if digest, err = c.storeEvidence(ctx, tx, caller, report); err != nil {
			return false, err
		}
	}
	if err := c.storeAdoption(ctx, tx, report, digest); err != nil {
		return false, err
	}
	raw, err := proto.Marshal(report)
	if err != nil {
		return false, err
	}
	if err := tx.SetPlacementReport(ctx, placement.ID, raw, report.Generation, report.LastGeneration, report.NotAfter.AsTime()); err != nil {
		return false, err
	}
	return moved(before, report), c.auditReport(ctx, tx, caller, placement, before, report, digest)
}

func moved(before, after *api.PlacementReport) bool {
	return (before.GetFailure() == nil) != (after.GetFailure() == nil)
}

// auditReport enters what changed for good: a rotation that was committed, one
// that failed, a placement restored.
func (c *Control) auditReport(ctx context.Context, tx *store.Tx, caller Caller, placement store.Placement, before, after *api.PlacementReport, evidence string) error {
	detail := map[string]any{
		"intent": placement.Intent, "generation": after.Generation, "revision": after.Revision, "evidence": evidence,
	}
	if failure := after.GetFailure(); failure != nil && !proto.Equal(failure, before.GetFailure()) {
		detail["step"], detail["reason"], detail["restored"] = failure.Step, failure.Reason, failure.Restored
		detail["failedGeneration"] = failure.Generation
		_, err := done(ctx, tx, caller, "placement.failed", "Placement/"+placement.ID, detail)
		return err
	}
	if after.Revision != before.GetRevision() && after.Level > api.Level_LEVEL_UNSPECIFIED {
		detail["level"], detail["serial"] = levelName(after.Level), after.Serial
		_, err := done(ctx, tx, caller, "placement.rotated", "Placement/"+placement.ID, detail)
		return err
	}
	return nil
}

func levelName(level api.Level) string {
	for name, wire := range levels {
		if wire == level {
			return string(name)
		}
	}
	return ""
}

// storeEvidence keeps one observation, exact bytes, if the agent's certificate
// vouches for it.
func (c *Control) storeEvidence(ctx context.Context, tx *store.Tx, caller Caller, report *api.PlacementReport) (string, error) {
	evidence := report.Evidence
	digest := fmt.Sprintf("%x", sha256.Sum256(evidence.Statement))
	if err := vouched(ctx, tx, caller.ID, evidence); err != nil {
		return "", fault.Wrap(fault.Invalid, err, "evidence of placement %s", report.PlacementId)
	}
	var statement struct {
		Kind    string    `json:"kind"`
		Verdict string    `json:"verdict"`
		Time    time.Time `json:"time"`
	}
	if err := json.Unmarshal(evidence.Statement, &statement); err != nil {
		return "", fault.Wrap(fault.Invalid, err, "evidence of placement %s is not JSON", report.PlacementId)
	}
	return digest, tx.PutEvidence(ctx, store.Evidence{
		Digest: digest, PlacementID: report.PlacementId, Observer: caller.ID, Kind: statement.Kind,
		Verdict: statement.Verdict, Statement: evidence.Statement, Signature: evidence.Signature, At: statement.Time,
	})
}

// vouched checks that one of the agent's own keys signed the evidence: the
// newest, or one before it where a renewal overtook the report.
func vouched(ctx context.Context, tx *store.Tx, agentID string, evidence *api.Evidence) error {
	identities, err := tx.AgentIdentities(ctx, agentID)
	if err != nil {
		return err
	}
	for _, identity := range identities {
		certificate, err := x509.ParseCertificate(identity.DER)
		if err != nil {
			return err
		}
		if identity.RevokedAt.IsZero() && signedBy(certificate.PublicKey, evidence) {
			return nil
		}
	}
	return fault.New(fault.Invalid, "the signature is by none of the agent's keys")
}

func signedBy(public crypto.PublicKey, evidence *api.Evidence) bool {
	digest := sha256.Sum256(evidence.Statement)
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digest[:], evidence.Signature)
	case ed25519.PublicKey:
		return ed25519.Verify(key, evidence.Statement, evidence.Signature)
	}
	return false
}

func (c *Control) storeAdoption(ctx context.Context, tx *store.Tx, report *api.PlacementReport, evidence string) error {
	if report.BundleDigest == "" {
		return nil
	}
	return tx.PutAdoption(ctx, store.Adoption{
		PlacementID: report.PlacementId, BundleDigest: report.BundleDigest,
		Level: levelName(report.Level), Evidence: evidence, At: tx.Now,
	})
}
