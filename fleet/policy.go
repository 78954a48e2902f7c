package fleet

// Policy is a set of rules about who may have which certificate. A request
// that no rule allows is refused; one that any rule denies is refused too.
type Policy struct {
	// The rules. Their order does not matter.
	Rules []Rule `json:"rules,omitempty"`
}

func (*Policy) kind() Kind { return KindPolicy }

// Rule allows or denies what its condition holds for.
type Rule struct {
	// The rule's name, by which refusals cite it.
	Name Name `json:"name"`
	// What the rule does where its condition holds: allow or deny.
	Effect Effect `json:"effect"`
	// The condition, in CEL, over service, intent, profile, instance, agent,
	// names, usages, algorithm and lifetime.
	When string `json:"when"`
	// Why the rule is there, for people.
	Description string `json:"description,omitempty"`
}

// Effect is what a rule does.
type Effect string

// The effects.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny"
)

func (Effect) values() []string { return []string{string(Allow), string(Deny)} }
