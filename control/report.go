package control

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/store"
)

// maxPlacementReport bounds what an agent may say of one placement, evidence
// included.
const maxPlacementReport = 128 << 10

// maxRevision is the greatest number of a revision that columns can hold.
const maxRevision = 1 << 62

// Report takes what an agent observes. Facts of placements are stored with
// their evidence; what only says "still here" stays in memory.
func (c *Control) Report(ctx context.Context, caller Caller, report *api.AgentReport) error {
	if err := authorize(caller, "agent.report"); err != nil {
		return err
	}
	if err := checkReport(report); err != nil {
		return err
	}
	c.notePresence(caller, report)
	if err := c.heed(ctx, caller, report.Checkpoint, report.Epoch); err != nil {
		return err
	}
	if err := c.noteAnchors(ctx, caller, report.AnchorsDigest); err != nil {
		return err
	}
	said := saysOf(report)
	if len(report.Placements) == 0 || c.saidBefore(caller, said) {
		return c.beat(ctx, caller)
	}
	var told []news
	var doubts []doubt
	var clusters []string
	err := c.db.Write(ctx, func(tx *store.Tx) error {
		told, doubts, clusters = nil, nil, nil
		if _, err := activeAgent(ctx, tx, caller); err != nil {
			return err
		}
		for _, placement := range report.Placements {
			one, err := c.storeReport(ctx, tx, caller, placement, report.DesiredSeq)
			switch code := fault.CodeOf(err); {
			case err == nil:
				told = append(told, one)
				clusters = append(clusters, one.freed, one.asks)
			case code == fault.NotFound || code == fault.Conflict:
				doubts = append(doubts, doubt{placement.PlacementId, err, tx.Now})
			default:
				return err
			}
		}
		if !slices.ContainsFunc(told, news.concernsOthers) {
			tx.Quiet()
		}
		return tx.SetAgentSeen(ctx, caller.ID)
	})
	if code := fault.CodeOf(err); err != nil && code != fault.Internal && code != fault.Unavailable {
		return c.refused(ctx, caller, "agent.report", "Agent/"+caller.ID, err)
	}
	if err != nil {
		return err
	}
	c.presence.wrote(c.now(), caller.ID)
	c.keepSaid(caller, said, told, doubts)
	c.spread(told)
	woken := c.grantAll(ctx, clusters, caller.ID)
	if slices.ContainsFunc(told, news.isNew) {
		woken = append(woken, caller.ID) // what it says may bring it an order
	}
	c.watchers.wakeAgents(woken...)
	c.voice(ctx, caller, doubts)
	return nil
}

// doubt is a placement's report that does not fit what the store knows: of a
// placement, a generation or a bundle that it has no record of. A store that
// was restored from a copy knows less than the hosts do, so this must not cut
// the agent off from its other placements.
type doubt struct {
	placement string
	reason    error
	at        time.Time
}

// voice enters each doubt, once as long as it stays the same.
func (c *Control) voice(ctx context.Context, caller Caller, doubts []doubt) {
	for _, one := range doubts {
		last, told := c.doubts.Swap(one.placement, one)
		if !told || last.(doubt).reason.Error() != one.reason.Error() {
			c.recordRefused(ctx, caller, refusal{"agent.report", "Placement/" + printable(one.placement), one.reason})
		}
	}
}

// doubtOf is why the newest report of a placement was not taken, where that came
// to this server; nil where it was.
func (c *Control) doubtOf(placement store.Placement) error {
	last, told := c.doubts.Load(placement.ID)
	if !told || last.(doubt).at.Before(placement.ReportedAt) {
		return nil
	}
	return last.(doubt).reason
}

// checkReport refuses what is out of proportion before anything is written.
func checkReport(report *api.AgentReport) error {
	seen := make(map[string]bool, len(report.Placements))
	for _, placement := range report.Placements {
		switch {
		case placement == nil || placement.PlacementId == "":
			return fault.New(fault.Invalid, "the report of a placement does not say which one")
		case seen[placement.PlacementId]:
			return fault.New(fault.Invalid, "placement %s is reported twice in one message", printable(placement.PlacementId))
		case proto.Size(placement) > maxPlacementReport:
			return fault.New(fault.Invalid, "the report of placement %s has %d bytes, at most %d may be", printable(placement.PlacementId), proto.Size(placement), maxPlacementReport)
		}
		seen[placement.PlacementId] = true
	}
	return nil
}

// news is what one placement's report changed.
type news struct {
	placement       store.Placement
	before, after   *api.PlacementReport
	failed, rotated bool
	asks            string // the cluster that it asks for leave; "": of none
	freed           string // the cluster in which somebody else may go now; "": in none
}

// concernsOthers says whether the placements of other agents may be held now,
// or may go on: the breaker moved. Whom a slot is granted is woken for himself.
func (n news) concernsOthers() bool {
	return n.failed || (n.before.GetFailure() == nil) != (n.after.GetFailure() == nil)
}

// isNew says whether the agent has said anything else before.
func (n news) isNew() bool { return !proto.Equal(n.before, n.after) }

// spread counts what was stored and wakes those whom it concerns.
func (c *Control) spread(all []news) {
	everybody := false
	for _, n := range all {
		c.figures.count(n)
		everybody = everybody || n.concernsOthers()
	}
	if everybody {
		c.watchers.wakeEverybody()
	} else {
		c.watchers.wakeAgents()
	}
}

// storeReport stores one placement's facts, as far as the store and the
// evidence bear them out.
func (c *Control) storeReport(ctx context.Context, tx *store.Tx, caller Caller, claimed *api.PlacementReport, seq uint64) (news, error) {
	n := news{}
	var err error
	if n.placement, err = tx.Placement(ctx, claimed.PlacementId); err != nil {
		return n, err
	}
	if n.placement.AgentID != caller.ID {
		return n, fault.New(fault.Forbidden, "placement %s is not of agent %s", n.placement.ID, caller.ID)
	}
	if n.before, err = storedReport(n.placement); err != nil {
		return n, err
	}
	digest := evidenceDigest(claimed.Evidence)
	var seen *probe.Observation
	if n.after, seen, err = believe(ctx, tx, caller, n.placement, claimed); err != nil {
		return n, fault.Wrap(fault.CodeOf(err), err, "report of placement %s", n.placement.ID)
	}
	if n.after.Edges, err = believeEdges(ctx, tx, caller, n.placement.ID, claimed.Edges); err != nil {
		return n, err
	}
	n.compare()
	if err := storeAdoption(ctx, tx, n.after, seen, digest); err != nil {
		return n, err
	}
	if seen != nil {
		cited := n.failed || n.rotated
		if err := storeEvidence(ctx, tx, caller, n.placement.ID, claimed.Evidence, *seen, cited); err != nil {
			return n, err
		}
	}
	reported, err := n.reported(tx.Now)
	if err != nil {
		return n, err
	}
	if err := tx.SetPlacementReport(ctx, n.placement.ID, reported); err != nil {
		return n, err
	}
	if n.freed, err = c.followSlot(ctx, tx, caller, n.placement, n.after, seq); err != nil {
		return n, err
	}
	if reported.AsksSlot > 0 {
		n.asks = n.placement.Cluster
	}
	if err := auditReport(ctx, tx, caller, n, digest); err != nil {
		return n, err
	}
	return n, auditDestroyed(ctx, tx, caller, n)
}

// reported is what the store keeps of a report. Since when a failure stands, or
// a slot is asked for, goes by the server's clock: what it is compared with
// does too. Of a row of failures the first counts, so that what never heals
// does not hold its cluster for ever; but one from before a resume is over, and
// a process comes in doubt when the first step that touches it fails.
func (n *news) reported(now time.Time) (store.Reported, error) {
	raw, err := proto.Marshal(n.after)
	r := store.Reported{
		Report: raw, Generation: n.after.Generation, Last: n.after.LastGeneration, NotAfter: n.after.NotAfter.AsTime(),
	}
	if n.after.GetFailure() != nil {
		r.FailedAt = n.placement.FailedAt
		doubted := inDoubt(n.after.Failure) && !inDoubt(n.before.GetFailure())
		if r.FailedAt.IsZero() || n.failed && (doubted || !r.FailedAt.After(n.placement.ResumedAt)) {
			r.FailedAt = now
		}
	}
	if n.after.AsksSlot > 0 && n.after.SlotId == "" {
		r.AsksSlot = n.after.AsksSlot
		if r.AskedAt = n.placement.AskedAt; r.AskedAt.IsZero() {
			r.AskedAt = now
		}
	}
	return r, err
}

// compare finds what is new: an attempt that failed, or a rotation that was
// committed. A switch that is not proven yet is neither.
func (n *news) compare() {
	failure := n.after.GetFailure()
	n.failed = failure != nil && !proto.Equal(failure, n.before.GetFailure())
	committed := n.after.GetCommittedAt()
	n.rotated = !n.failed && committed != nil && !proto.Equal(committed, n.before.GetCommittedAt())
}

// believe is the part of a claim that the store and the evidence bear out: a
// generation in use was issued here, and is what its record says; "proven"
// needs evidence of a handshake that showed this very certificate. It returns
// what the evidence shows beside it, and writes nothing.
func believe(ctx context.Context, tx *store.Tx, caller Caller, placement store.Placement, claimed *api.PlacementReport) (*api.PlacementReport, *probe.Observation, error) {
	believed := proto.CloneOf(claimed)
	believed.Evidence, believed.Reason, believed.Product = nil, short(claimed.Reason), short(claimed.Product)
	believed.Destroyed = boundDestroyed(claimed.Destroyed)
	believed.AsksSlot = min(claimed.AsksSlot, maxRevision)
	if believed.Failure != nil {
		believed.Failure.Step, believed.Failure.Reason = short(believed.Failure.Step), short(believed.Failure.Reason)
	}
	var seen *probe.Observation
	if claimed.Evidence != nil {
		observation, err := readEvidence(ctx, tx, caller, claimed.Evidence)
		if err != nil {
			return nil, nil, fault.Wrap(fault.CodeOf(err), err, "evidence")
		}
		seen = &observation
	}
	if err := checkGenerations(ctx, tx, placement, believed); err != nil {
		return nil, nil, err
	}
	believed.Serial, believed.NotAfter = "", nil
	proven := seen != nil && seen.Outcome == probe.Served
	if believed.Generation > 0 {
		leaf, err := issuedLeaf(ctx, tx, placement.ID, claimed)
		if err != nil {
			return nil, nil, err
		}
		believed.Serial, believed.NotAfter = leaf.Serial.String(), timestamppb.New(leaf.NotAfter)
		proven = shows(seen, leaf)
	}
	if !proven {
		believed.Level = min(believed.Level, api.Level_LEVEL_LOADED)
	}
	return believed, seen, nil
}

// issuedLeaf is the record of the generation that is said to be in use.
func issuedLeaf(ctx context.Context, tx *store.Tx, placementID string, claimed *api.PlacementReport) (store.Certificate, error) {
	leaf, err := tx.PlacementCertificate(ctx, placementID, claimed.Generation)
	switch {
	case err != nil && fault.CodeOf(err) == fault.NotFound:
		return leaf, fault.New(fault.Conflict, "generation %d is said to be in use, and was never issued here", claimed.Generation)
	case err == nil && claimed.Serial != "" && claimed.Serial != leaf.Serial.String():
		return leaf, fault.New(fault.Conflict, "generation %d is said to have serial %s, it was issued with %s", claimed.Generation, printable(claimed.Serial), leaf.Serial)
	}
	return leaf, err
}

// checkGenerations keeps an agent from using up the numbers of a placement:
// the highest one used is what the next rotation has to pass.
func checkGenerations(ctx context.Context, tx *store.Tx, placement store.Placement, claimed *api.PlacementReport) error {
	newest, err := newestGeneration(ctx, tx, placement)
	if err != nil {
		return err
	}
	if most := newest + mostSkipped; claimed.LastGeneration > most || claimed.Generation > most {
		return fault.New(fault.Conflict, "generation %d is too far ahead: the newest is %d", max(claimed.Generation, claimed.LastGeneration), newest)
	}
	return nil
}

func newestGeneration(ctx context.Context, tx *store.Tx, placement store.Placement) (uint64, error) {
	newest, err := tx.NewestPlacementCertificate(ctx, placement.ID)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return 0, err
	}
	return max(placement.LastGeneration, newest.Generation), nil
}

// auditReport enters what changed for good: a rotation that was committed, or
// one that failed.
func auditReport(ctx context.Context, tx *store.Tx, caller Caller, n news, evidence string) error {
	detail := map[string]any{
		"intent": n.placement.Intent, "generation": n.after.Generation, "revision": n.after.Revision, "evidence": evidence,
	}
	verb := "placement.rotated"
	switch {
	case n.failed:
		failure := n.after.Failure
		verb = "placement.failed"
		detail["step"], detail["reason"], detail["restored"] = failure.Step, failure.Reason, failure.Restored
		detail["failedGeneration"] = failure.Generation
	case n.rotated:
		detail["level"], detail["serial"] = levelName(n.after.Level), n.after.Serial
	default:
		return nil
	}
	_, err := done(ctx, tx, caller, verb, "Placement/"+n.placement.ID, detail)
	return err
}

func levelName(level api.Level) string {
	for name, wire := range levels {
		if wire == level {
			return string(name)
		}
	}
	return ""
}
