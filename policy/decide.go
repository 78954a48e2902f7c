package policy

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// maxNamed is how many rules a refusal explains.
const maxNamed = 5

// Decide says whether the certificate may be issued. A rule that denies and
// that cannot be evaluated denies; one that allows does not allow then.
func (e *Engine) Decide(in Input) Decision {
	if err := in.exceeds(); err != nil {
		return Decision{Rule: DefaultDeny, Reason: "the request is too large to be decided: " + err.Error()}
	}
	facts := cel.Activation(variables{&in})
	for i := range e.deny {
		r := &e.deny[i]
		holds, err := holds(r.condition, facts)
		if err != nil {
			return Decision{Rule: r.name, Reason: fmt.Sprintf("rule %s denies what it cannot evaluate: %v", r.name, err)}
		}
		if holds {
			return Decision{Rule: r.name, Reason: r.says("denies it")}
		}
	}
	for i := range e.allow {
		r := &e.allow[i]
		if holds, err := holds(r.condition, facts); err == nil && holds {
			return Decision{Allowed: true, Rule: r.name, Reason: r.says("allows it")}
		}
	}
	return Decision{Rule: DefaultDeny, Reason: e.needed(facts)}
}

func (r *rule) says(what string) string {
	text := "rule " + r.name + " " + what
	if r.why != "" {
		text += ": " + r.why
	}
	return text
}

func holds(program cel.Program, facts cel.Activation) (bool, error) {
	value, _, err := program.Eval(facts)
	if err != nil {
		return false, err
	}
	return value == types.True, nil
}

// needed says what would have allowed it.
func (e *Engine) needed(facts cel.Activation) string {
	if len(e.allow) == 0 {
		return "no policy has a rule that allows anything"
	}
	var lacks []string
	for i := range e.allow {
		if i == maxNamed {
			lacks = append(lacks, fmt.Sprintf("and %d rules more", len(e.allow)-maxNamed))
			break
		}
		lacks = append(lacks, e.allow[i].lacks(facts))
	}
	return "no rule allows it; " + strings.Join(lacks, "; ")
}

// lacks says which parts of the rule's condition do not hold.
func (r *rule) lacks(facts cel.Activation) string {
	var missing []string
	for _, part := range r.conditions {
		held, err := holds(part.program, facts)
		switch {
		case err != nil:
			missing = append(missing, fmt.Sprintf("%s (%v)", part.text, err))
		case !held:
			missing = append(missing, part.text)
		}
	}
	if len(missing) == 0 {
		return "rule " + r.name + " does not hold"
	}
	return "rule " + r.name + " needs " + strings.Join(missing, " and ")
}
