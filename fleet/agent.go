package fleet

import (
	"maps"
	"regexp"
	"slices"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Agent is what the control plane attests of an agent. What the agent says of
// itself is not among it, and can be used by no selector, template or policy.
type Agent struct {
	ID     string
	Labels map[string]string // from its token or attestation, or an operator's verb
	Region string
	Zone   string
	State  AgentState
}

// The forms of labels. Values go into templates, so they hold neither spaces
// nor braces nor '*'.
const (
	labelKeyPattern   = `^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`
	labelValuePattern = `^[A-Za-z0-9]([A-Za-z0-9._:@/-]{0,251}[A-Za-z0-9])?$`
	maxLabels         = 64
)

var (
	labelKeyForm   = regexp.MustCompile(labelKeyPattern)
	labelValueForm = regexp.MustCompile(labelValuePattern)
)

// CheckLabels says whether an agent may have these labels.
func CheckLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fault.New(fault.Invalid, "%d labels; an agent may have %d", len(labels), maxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if err := checkLabel(key, labels[key]); err != nil {
			return err
		}
	}
	return nil
}

func checkLabel(key, value string) error {
	if !labelKeyForm.MatchString(key) {
		return fault.New(fault.Invalid, "label key %s: it must be 1 to 63 letters, digits, '.', '_', '/' and '-', with a letter or digit at both ends", quote(key))
	}
	if !labelValueForm.MatchString(value) {
		return fault.New(fault.Invalid, "label %s has the value %s: it must be 1 to 253 letters, digits, '.', '_', ':', '@', '/' and '-', with a letter or digit at both ends", key, quote(value))
	}
	return nil
}
