package agent

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/rotation"
)

// publish makes the report of what the host shows now.
func (p *placement) publish(w *wished, f rotation.Facts, s rotation.Step) {
	report := p.report(f)
	report.Reason = s.Reason
	report.State = stateOf(w, f, s)
	if p.record.Pending != "" && report.State == api.State_STATE_STEADY {
		report.Reason = p.record.Pending
	}
	if unseen := p.sessionsUnseen(report.State); unseen != "" && p.record.Pending == "" {
		report.Reason = unseen
	}
	p.reportLists(report, f, s)
	report.AsksSlot = s.AsksSlot
	report.Orders = p.orderReports(w)
	if wrong := p.contact.wrong(); wrong != nil && s.Action == rotation.Wait && report.State != api.State_STATE_ORPHAN {
		report.State, report.Reason = api.State_STATE_FAILED, wrong.Error()
		if v := p.record.Revision(f.Current); v != nil && !v.Committed() {
			report.Reason += fmt.Sprintf("; revision %d is delivered all the same: the next start finds it", v.Number)
		}
	}
	if w.err != nil {
		report.State, report.Reason = api.State_STATE_FAILED, w.err.Error()
	}
	p.ready.Store(p.readiness(w, f))
	p.show(report)
}

// publishBlocked reports trouble of this host's beside what was last shown.
// While the record can't be read that is nothing, and no revision: then it says
// nothing of a slot either.
func (p *placement) publishBlocked(err error) {
	report := &api.PlacementReport{PlacementId: p.id}
	if last := p.shown.Load(); last != nil {
		report = proto.CloneOf(last)
	}
	report.State, report.Reason = api.State_STATE_FAILED, err.Error()
	if p.opened {
		report.SlotId = p.record.slotID() // kept, whatever else is known
	}
	p.show(report)
}

func (p *placement) show(report *api.PlacementReport) {
	report.Reason, report.Product = clip(report.Reason), clip(report.Product)
	if report.Failure != nil {
		report.Failure.Reason = clip(report.Failure.Reason)
	}
	if last := p.shown.Load(); last != nil && proto.Equal(last, report) {
		return
	}
	p.shown.Store(report)
	p.e.announce()
}

// maxText bounds each text of a report. What servers and commands say comes
// into them, and the control plane refuses a report, whole, that is too large.
const maxText = 1 << 10

func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// stateOf says in one word how it stands.
func stateOf(w *wished, f rotation.Facts, s rotation.Step) api.State {
	settled := f.Current != 0 && f.Loaded == f.Current && f.Proven == f.Current
	switch {
	case s.Action == rotation.Remove || s.Action == rotation.DestroyKey:
		return api.State_STATE_STEADY
	case s.Action != rotation.Wait:
		return api.State_STATE_ROTATING
	case s.Alarm && f.Slot != nil && w.wish != nil && w.bare:
		return api.State_STATE_FAILED
	case w.wish != nil && w.desired.Orphan:
		return api.State_STATE_ORPHAN
	case f.Setback != nil && !(f.Setback.Step == rotation.Request && f.Setback.Transient):
		return api.State_STATE_FAILED
	case s.Alarm && !settled:
		return api.State_STATE_FAILED
	case settled && w.wish != nil && w.desired.Hold == "" && f.Setback == nil:
		return api.State_STATE_STEADY
	case settled && f.Setback == nil:
		return api.State_STATE_STEADY
	}
	return api.State_STATE_WAITING
}

// report says what is in use, and how it came to be.
func (p *placement) report(f rotation.Facts) *api.PlacementReport {
	r := &p.record
	report := &api.PlacementReport{
		PlacementId: p.id, LastGeneration: r.LastGeneration, Evidence: r.Observed.message(), Drift: f.Drift != "",
		Rotations: r.Rotations, Restores: r.Restores, SlotId: r.slotID(), Product: p.contact.product, Edges: p.edgeReports(),
	}
	if r.Took > 0 {
		report.Took = durationpb.New(r.Took)
	}
	if !r.Committed.IsZero() {
		report.CommittedAt = timestamppb.New(r.Committed)
	}
	if r.Failure != nil {
		report.Failure = &api.Failure{
			Step: string(r.Failure.Step), Reason: r.Failure.Reason, Generation: r.Failure.Generation,
			At: timestamppb.New(r.Failure.At), Restored: r.Failure.Restored, EvidenceDigest: r.Failure.Evidence,
		}
	}
	for _, one := range r.Destroyed {
		report.Destroyed = append(report.Destroyed, &api.DestroyedKey{Generation: one.Generation, At: timestamppb.New(one.At)})
	}
	v := r.Revision(f.Current)
	if v == nil {
		return report
	}
	report.Revision, report.Generation, report.BundleDigest = v.Number, v.Generation, v.Bundle.String()
	if !v.Bridge.IsZero() {
		report.BridgeDigest = v.Bridge.String()
	}
	report.Level = api.Level_LEVEL_DELIVERED
	if f.Loaded == v.Number {
		report.Level = max(report.Level, min(r.Level, api.Level_LEVEL_LOADED))
	}
	if f.Proven == v.Number {
		report.Level = max(report.Level, r.Level)
	}
	if g := r.Generation(v.Generation); g != nil && g.Leaf != nil {
		report.Serial, report.NotAfter = g.Leaf.Serial, timestamppb.New(g.Leaf.NotAfter)
	}
	return report
}
