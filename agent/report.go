package agent

import (
	"os"
	"runtime"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
)

// reporter makes the messages of one stream. It remembers what the stream has
// carried, so that later messages hold what changed.
type reporter struct {
	sync     *syncer
	link     *link
	sent     map[string]*api.PlacementReport
	anchors  pki.BundleDigest // said last
	answered bool             // a state was taken since the stream opened
}

// first opens the stream: who, and all placements.
func (r *reporter) first(boot uint64) *api.AgentReport {
	report := r.full()
	report.Hello = &api.Hello{Boot: boot, Version: r.sync.version, Facts: facts(r.sync.version, r.sync.targets), Epoch: r.sync.epoch()}
	return report
}

// full carries all placements.
func (r *reporter) full() *api.AgentReport {
	r.sent = nil
	report := r.changes()
	report.Full = true
	return report
}

// changes carries the placements that changed since the last message.
func (r *reporter) changes() *api.AgentReport {
	report := r.beat()
	now := map[string]*api.PlacementReport{}
	for _, placement := range r.sync.performer.Reports() {
		placement = r.vouch(placement)
		now[placement.PlacementId] = placement
		if !proto.Equal(placement, r.sent[placement.PlacementId]) {
			report.Placements = append(report.Placements, placement)
		}
	}
	r.sent = now
	return report
}

// answer says what others wait for once a state was taken: the anchors that the
// agent believes, where they changed, and of a placement that shows no slot any
// more, or may have lost one while there was no stream, that it has begun with
// none. Otherwise it is nil.
func (r *reporter) answer(before, after *api.DesiredState) *api.AgentReport {
	slots := map[string]string{}
	for _, placement := range after.GetPlacements() {
		slots[placement.PlacementId] = placement.Slot.GetId()
	}
	waited := false
	for _, placement := range before.GetPlacements() {
		lost := placement.Slot != nil && placement.Slot.Id != slots[placement.PlacementId]
		if lost || !r.answered && r.sent[placement.PlacementId].GetAsksSlot() > 0 {
			delete(r.sent, placement.PlacementId)
			waited = true
		}
	}
	r.answered = true
	switch {
	case waited:
		return r.changes()
	case r.anchors != r.sync.ids.current.Load().Anchors.Digest():
		return r.beat()
	}
	return nil
}

// beat says that the agent is there, what time it has and what troubles it.
func (r *reporter) beat() *api.AgentReport {
	r.anchors = r.sync.ids.current.Load().Anchors.Digest()
	return &api.AgentReport{
		AgentTime: timestamppb.New(r.sync.now()), Checkpoint: r.sync.newestCheckpoint(),
		DesiredSeq: r.sync.seq(), Epoch: r.sync.epoch(), Alarm: r.sync.alarms.text(),
		AnchorsDigest: r.anchors.String(),
	}
}

// vouch makes sure that evidence carries the signature of the identity that
// the stream runs under: the server verifies it by that certificate, and the
// observation may be older than the identity. The statement stays as it is.
func (r *reporter) vouch(placement *api.PlacementReport) *api.PlacementReport {
	if placement.Evidence == nil || r.link.identity.vouches(placement.Evidence) {
		return placement
	}
	if before := r.sent[placement.PlacementId]; before != nil && string(before.Evidence.GetStatement()) == string(placement.Evidence.Statement) {
		copied := proto.CloneOf(placement) // ECDSA signs differently each time
		copied.Evidence = before.Evidence
		return copied
	}
	copied := proto.CloneOf(placement)
	evidence, err := r.link.identity.sign(placement.Evidence.Statement)
	if err != nil {
		r.sync.log.Error("a report goes without its evidence", "placement", placement.PlacementId, "error", err)
	}
	copied.Evidence = evidence
	return copied
}

// facts is what the agent says of itself. Selectors and policies can't use it.
func facts(version, targets string) map[string]string {
	said := map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH, "version": version}
	if targets != "" {
		said["targets"] = targets
	}
	if host, err := os.Hostname(); err == nil {
		said["hostname"] = host
	}
	return said
}
