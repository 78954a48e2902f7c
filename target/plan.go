package target

import (
	"fmt"
	"slices"
	"strings"
)

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
	Kind   ActKind
	Target Target
	// Command is the named command. A reload without one goes over the
	// target's control path.
	Command string
	Change  Change
	Reason  string // why this act, in words
}

// Disrupts says whether the act takes the target out of service for a while.
func (a Act) Disrupts() bool { return a.Kind == ActRestart }

// Plan says what has to be done to a target after its files were switched to
// a revision with this change. There is always at least one act, even if it
// is to do nothing, and why.
//
// What a kind takes live it takes by a reload: over the control path, else by
// the intent's reloadCommand, else by a restart. What it takes at a restart
// only is left pending where the intent names no restartCommand.
func (a Adapter) Plan(t Target, change Change) []Act {
	if change.None() && !change.First && !change.Unknown {
		return t.nothing("nothing differs")
	}
	change = a.assume(change)
	var acts []Act
	if a.plan != nil {
		acts = a.plan(t, change)
	} else {
		acts = a.follow(t, change)
	}
	for i := range acts {
		acts[i].Target, acts[i].Change = t, change
	}
	return acts
}

// assume takes it that a process of which nothing is known has none of what it
// can be given. It is not restarted on the mere suspicion.
func (a Adapter) assume(change Change) Change {
	if change.First || change.Unknown {
		change.Leaf = true
		change.AnchorsAdded = change.AnchorsAdded || change.First || a.AnchorAdd.Live()
		change.AnchorsRemoved = change.AnchorsRemoved || change.First || a.AnchorRemove.Live()
	}
	return change
}

// follow is the plan by the kind's row of the table.
func (a Adapter) follow(t Target, change Change) []Act {
	late := a.atRestart(change)
	switch {
	case change.First && (t.Control == nil || a.reload == nil):
		return t.nothing(fmt.Sprintf("%s reads these files when it starts", a.Title))
	case change.First:
		return []Act{{Kind: ActReload, Reason: fmt.Sprintf("%s may be running already", a.Title)}}
	case len(late) > 0 && t.RestartCommand != "":
		return []Act{{Kind: ActRestart, Command: t.RestartCommand,
			Reason: fmt.Sprintf("%s takes this at its start only: %s", a.Title, strings.Join(late, ", "))}}
	}
	acts := a.reloads(t, change)
	if len(late) > 0 {
		acts = append(acts, Act{Kind: ActPending, Reason: fmt.Sprintf(
			"%s %s takes this at its start only, and its intent names no restartCommand: %s; it takes effect at the next restart",
			a.Title, t.Name, strings.Join(late, ", "))})
	}
	if len(acts) == 0 {
		return t.nothing(fmt.Sprintf("%s has no use for what differs, or reads it at each handshake", a.Title))
	}
	return acts
}

// reloads is how a target is made to take what it takes live.
func (a Adapter) reloads(t Target, change Change) []Act {
	switch {
	case !a.anyAt(AtReload, change):
		return nil
	case t.Control != nil && a.reload != nil:
		return []Act{{Kind: ActReload, Reason: a.Reload}}
	case t.ReloadCommand != "":
		return []Act{{Kind: ActReload, Command: t.ReloadCommand, Reason: "its intent names this reloadCommand, and agent.yaml no control path"}}
	case t.RestartCommand != "":
		return []Act{{Kind: ActRestart, Command: t.RestartCommand, Reason: "neither agent.yaml names a control path nor its intent a reloadCommand, but this restartCommand"}}
	}
	return []Act{{Kind: ActPending, Reason: fmt.Sprintf(
		"%s %s can't be told: agent.yaml names no control path under targets.%s, and the intent neither a reloadCommand nor a restartCommand", a.Title, t.Name, t.Name)}}
}

// part is one of the ways in which a change differs, and the moment at which a
// kind of server takes it.
type part struct {
	name string
	when When
}

func (c Capabilities) parts(change Change) []part {
	var parts []part
	for _, one := range []struct {
		differs bool
		part
	}{
		{change.Leaf, part{"another certificate", c.Leaf}},
		{change.KeyType, part{"a key of another type", c.KeyType}},
		{change.AnchorsAdded, part{"a CA added", c.AnchorAdd}},
		{change.AnchorsRemoved, part{"a CA removed", c.AnchorRemove}},
		{change.CRL, part{"another CRL", c.CRL}},
		{change.Staple, part{"another stapled response", c.Staple}},
	} {
		if one.differs {
			parts = append(parts, one.part)
		}
	}
	return parts
}

// atRestart lists what of a change is taken at a restart only.
func (c Capabilities) atRestart(change Change) []string {
	var late []string
	for _, part := range c.parts(change) {
		if part.when == AtRestart {
			late = append(late, part.name)
		}
	}
	return late
}

func (c Capabilities) anyAt(when When, change Change) bool {
	return slices.ContainsFunc(c.parts(change), func(p part) bool { return p.when == when })
}

func (t Target) nothing(reason string) []Act {
	return []Act{{Kind: ActNothing, Target: t, Reason: reason}}
}
