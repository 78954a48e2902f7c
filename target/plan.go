package target

// ActKind is a kind of act.
type ActKind string

// The acts.
const (
	ActNothing ActKind = "nothing" // what was switched to is in use, or soon will be
	ActReload  ActKind = "reload"
	ActRestart ActKind = "restart"
	ActPending ActKind = "pending" // it takes effect at a restart that is not ours to do
)

// Act is one thing to do to a target after its files were switched.
type Act struct {
	Kind    ActKind
	Target  Target
	Command string // the named command; empty where nothing is run
	Reason  string // why this act, in words
}

// Disrupts says whether the act takes the target out of service for a while,
// so that few members of a cluster may do it at a time.
func (a Act) Disrupts() bool { return a.Kind == ActRestart }

// Plan says what has to be done to a target after its files were switched to
// a revision with this change. There is always at least one act, even if it
// is to do nothing, and why.
func (a Adapter) Plan(t Target, change Change) []Act {
	if change.None() && !change.First {
		return t.nothing("nothing differs")
	}
	return a.plan(t, change)
}

func (t Target) nothing(reason string) []Act {
	return []Act{{Kind: ActNothing, Target: t, Reason: reason}}
}
