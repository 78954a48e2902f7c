package story

import (
	"context"
	"fmt"
	"os"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/interop/table"
	"github.com/rotunda-pki/rotunda/pki"
)

// witness holds each new report against what the server really serves, before
// the story sees it.
func (m *Member) witness(reports []*api.PlacementReport) {
	for _, report := range reports {
		if report.GetPlacementId() != m.Placement || proto.Equal(report, m.seen) {
			continue
		}
		m.judge(report)
		m.seen = report
	}
}

func (m *Member) judge(report *api.PlacementReport) {
	before := m.seen
	claim := claimed{report.GetRevision(), report.GetRestores()}
	switch {
	case report.GetLevel() != api.Level_LEVEL_PROVEN:
		m.claim = claimed{}
	case report.GetState() != api.State_STATE_ROTATING && claim != m.claim:
		m.claim = claim
		m.judgeProven(report)
	}
	attempt := report.GetFailure() != nil && !proto.Equal(report.GetFailure().GetAt(), before.GetFailure().GetAt())
	blocked := report.GetState() == api.State_STATE_FAILED && report.GetFailure() == nil && before.GetState() != api.State_STATE_FAILED
	if before != nil && (blocked || attempt) && !m.troubled() {
		m.subject.Tally.Count(func(r *table.Row) { r.FalseFailed++ })
		progress("%s: FALSE FAILED: state %s, %s: %s; %s", m.Name, report.GetState(), report.GetFailure().GetStep(), report.GetFailure().GetReason(), report.GetReason())
	}
}

// claimed is what a report says was proven. That it stays so in later reports,
// while the server is down and the agent says that too, is no new claim.
type claimed struct{ revision, restores uint64 }

// judgeProven looks for itself at what the agent says that it proved. A look
// that was overtaken by the agent's next step says nothing.
func (m *Member) judgeProven(report *api.PlacementReport) {
	wrong := m.mismatch(report)
	if wrong != "" && m.overtaken(report) {
		m.claim = claimed{}
		return
	}
	m.subject.Tally.Count(func(r *table.Row) {
		r.Proofs++
		if wrong != "" {
			r.FalseProven++
		}
	})
	if wrong != "" {
		progress("%s: FALSE PROVEN: generation %d: %s", m.Name, report.GetGeneration(), wrong)
	}
}

// isOvertaken says whether the agent itself says something else by now.
func (m *Member) isOvertaken(report *api.PlacementReport) bool {
	now := m.Host.Now(m.Placement)
	return now == nil || now.GetRevision() != report.GetRevision() || now.GetState() != report.GetState() || now.GetLevel() != report.GetLevel()
}

// mismatch says how what is served differs from the generation that the report
// names, or "".
func (m *Member) mismatch(report *api.PlacementReport) string {
	leaf := m.subject.Plane.Issued(m.Placement, report.GetGeneration())
	if leaf == nil {
		return "no such generation was ever issued"
	}
	served, err := m.Eye.Served(context.Background())
	if err != nil {
		return fmt.Sprintf("no handshake: %v", err)
	}
	if !served[0].Equal(leaf) {
		return fmt.Sprintf("it serves %s, issued was %s", pki.FingerprintOf(served[0].Raw), pki.FingerprintOf(leaf.Raw))
	}
	return ""
}

// serves fails the test unless the server serves this generation.
func (m *Member) serves(report *api.PlacementReport) error {
	if wrong := m.mismatch(report); wrong != "" {
		return fmt.Errorf("%s: %s", m.Name, wrong)
	}
	return nil
}

var progressMu sync.Mutex

// progress writes a line for whoever waits for the suite.
func progress(format string, args ...any) {
	progressMu.Lock()
	defer progressMu.Unlock()
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
