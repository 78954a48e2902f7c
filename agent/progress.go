package agent

import (
	"encoding/json"
	"fmt"

	"github.com/rotunda-pki/rotunda/rotation"
)

// maxSteps is far above what one rotation, a restore and a clean-up take, and
// maxSwitches above the switches among them. More at once, or a step again on
// the same facts, is no progress: a defect, or someone who undoes each step. It
// must not become a loop, and least of all one of reloads.
const (
	maxSteps    = 64
	maxSwitches = 6
)

// progress is what was done to a placement in one go.
type progress struct {
	seen     map[string]bool // steps, each with the facts that it was derived from
	switches int
}

// next takes note of a step, or says why it would be no progress.
func (m *progress) next(f rotation.Facts, s rotation.Step) error {
	if s.Action == rotation.Activate || s.Action == rotation.Restore {
		m.switches++
	}
	at, err := json.Marshal(struct {
		Facts rotation.Facts
		Step  rotation.Step
	}{f, s})
	switch {
	case err != nil:
		return err
	case m.seen[string(at)]:
		return fmt.Errorf("%s of revision %d was done and changed nothing", s.Action, s.Revision)
	case m.switches > maxSwitches:
		return fmt.Errorf("%d switches at once, the next would be to revision %d (%s)", maxSwitches, s.Revision, s.Reason)
	case len(m.seen) >= maxSteps:
		return fmt.Errorf("no end after %d steps, the next would be %s (%s)", maxSteps, s.Action, s.Reason)
	}
	if m.seen == nil {
		m.seen = map[string]bool{}
	}
	m.seen[string(at)] = true
	return nil
}
