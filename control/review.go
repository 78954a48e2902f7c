package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/ca/lint"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/policy"
	"github.com/rotunda-pki/rotunda/store"
)

// review is what documents would do: made once, shown by plan, carried out by
// apply.
type review struct {
	before, after *world
	given         []fleet.Document // as the files have them
	changes       []change
	findings      []fleet.Finding
	overrides     map[fleet.PlacementKey]override // that stand
	concern       concern
}

// change is one document's difference.
type change struct {
	op       api.Difference_Op
	key      fleet.Key
	document fleet.Document // after; before, for a deletion
	diff     []string
	effects  []string
}

// reviewFiles reads the files and compares them with the store as tx shows it.
// It changes nothing. What is wrong is in the findings.
func (c *Control) reviewFiles(ctx context.Context, tx *store.Tx, sources []*api.SourceFile, prune bool) (*review, error) {
	var files []fleet.File
	for _, source := range sources {
		files = append(files, fleet.File{Path: source.Path, Content: source.Content})
	}
	before, err := c.worldAt(ctx, tx)
	if err != nil {
		return nil, err
	}
	r := &review{before: before, after: before}
	r.given, r.findings = fleet.ParseFiles(files)
	if fleet.HasErrors(r.findings) {
		return r, nil
	}
	set := r.compare(prune)
	r.findings = append(r.findings, fleet.Validate(set)...)
	var findings []fleet.Finding
	r.after, findings = compileWorld(before.state, set)
	r.findings = append(r.findings, findings...)
	if !fleet.HasErrors(r.findings) {
		if err := c.reviewFleet(ctx, tx, r); err != nil {
			return nil, err
		}
		c.lintProfiles(r)
	}
	fleet.SortFindings(r.findings)
	return r, nil
}

// compare lists the changes and returns the documents as they would be.
func (r *review) compare(prune bool) fleet.Set {
	set := fleet.NewSet()
	for _, document := range r.before.set {
		set.Put(document)
	}
	given := fleet.NewSet(r.given...)
	for _, document := range given.Documents() {
		old, known := r.before.set[document.Key()]
		set.Put(document)
		r.changes = append(r.changes, compareDocument(old, document, known))
	}
	if prune {
		for _, old := range r.before.set.Documents() {
			if _, kept := given[old.Key()]; !kept {
				delete(set, old.Key())
				r.changes = append(r.changes, change{op: api.Difference_DELETE, key: old.Key(), document: old})
			}
		}
	}
	return set
}

func compareDocument(old, document fleet.Document, known bool) change {
	one := change{op: api.Difference_CREATE, key: document.Key(), document: document}
	if !known {
		return one
	}
	one.op, one.diff = api.Difference_UPDATE, fleet.Diff(old, document)
	if len(one.diff) == 0 {
		one.op = api.Difference_UNCHANGED
	}
	return one
}

// judge finds what is wrong with the placements of one agent, of intents that the
// review is about.
func (r *review) judge(by *ca.Authority, agent store.Agent, placements map[fleet.PlacementKey]expansion) []fleet.Finding {
	var findings []fleet.Finding
	var expanded []fleet.Expanded
	for at, placement := range placements {
		judged, document := r.concern.judged[at.Intent], r.after.set[fleet.Key{Kind: fleet.KindIntent, Name: at.Intent}]
		if placement.err != nil && !judged {
			continue
		}
		if placement.err != nil {
			findings = append(findings, document.Finding(fleet.Error, "spec", "expand", placement.err.Error(),
				"give the agent the label, or narrow the selector"))
			continue
		}
		expanded = append(expanded, placement.expanded)
		if placement.expanded.Names == nil || !judged {
			continue
		}
		if finding, ok := judgeNames(r.after, by, agent, document, placement.expanded); ok {
			findings = append(findings, finding)
		}
	}
	if err := fleet.CheckHost(expanded); err != nil {
		findings = append(findings, fleet.Finding{
			Severity: fleet.Error, Rule: "shared-host", Document: "Agent/" + agent.ID, Message: err.Error(),
		})
	}
	return findings
}

func judgeNames(w *world, by *ca.Authority, agent store.Agent, document fleet.Document, expanded fleet.Expanded) (fleet.Finding, bool) {
	input := policy.InputOf(expanded, fleetAgent(agent))
	if decision := w.engine.Decide(input); !decision.Allowed {
		message := fmt.Sprintf("on agent %s the policy refuses %s: %s (%s)",
			agent.ID, strings.Join(namesOf(input), ", "), decision.Rule, decision.Reason)
		return document.Finding(fleet.Error, "spec.identity", "policy", message, "change the names, or add a rule that allows them"), true
	}
	if err := by.Permits(*expanded.Names); err != nil {
		return document.Finding(fleet.Error, "spec.identity", "name-constraints", err.Error(),
			"change the names; what an authority may sign was settled by rotunda init"), true
	}
	return fleet.Finding{}, false
}

// lintProfiles lints a sample leaf of each profile that changes.
func (c *Control) lintProfiles(r *review) {
	for _, one := range r.changes {
		profile, ok := one.document.Spec.(*fleet.Profile)
		if !ok || one.op == api.Difference_UNCHANGED || one.op == api.Difference_DELETE {
			continue
		}
		terms := termsOf(profile)
		findings, err := lint.Leaf(profile.Algorithm.Key(), terms, c.now())
		if err != nil {
			r.findings = append(r.findings, one.document.Finding(fleet.Error, "spec", "lint", err.Error(), "correct the profile"))
		}
		for _, finding := range findings {
			severity := fleet.Warning
			if finding.Error {
				severity = fleet.Error
			}
			r.findings = append(r.findings, one.document.Finding(severity, "spec", "lint/"+finding.Lint, finding.Message, finding.Citation))
		}
	}
}

// effect counts what documents would do to the placements of one intent.
type effect struct{ added, orphaned, rotated, restarted int }

// count counts what becomes of the placements of one agent.
func (h *hosts) count(before, after map[fleet.PlacementKey]expansion) {
	of := func(at fleet.PlacementKey) *effect {
		if h.effects[at.Intent] == nil {
			h.effects[at.Intent] = &effect{}
		}
		return h.effects[at.Intent]
	}
	for at, now := range after {
		was, known := before[at]
		switch {
		case !h.concern.moved[at.Intent]: // it means what it meant
		case !known:
			of(at).added++
		case was.err == nil && now.err == nil && needsNewLeaf(was.expanded, now.expanded):
			of(at).rotated++
		case was.err == nil && now.err == nil && was.expanded.Bundle != now.expanded.Bundle:
			of(at).restarted++
		}
	}
	for at := range before {
		if _, kept := after[at]; !kept {
			of(at).orphaned++
		}
	}
}

// needsNewLeaf says whether a certificate as it was would not do any more.
func needsNewLeaf(was, now fleet.Expanded) bool {
	if now.Names == nil {
		return false
	}
	return was.Names == nil || !was.Names.Equal(*now.Names) || was.Profile.Algorithm != now.Profile.Algorithm ||
		!slices.Equal(was.Profile.Usages, now.Profile.Usages)
}

// explain puts each intent's effects beside the change that brings them: its
// own where it changes, else the first change of the review.
func (r *review) explain(effects map[fleet.Name]*effect) {
	for i := range r.changes {
		one := &r.changes[i]
		if one.key.Kind == fleet.KindIntent {
			one.effects = effects[one.key.Name].words(one.key.Name)
			delete(effects, one.key.Name)
		}
	}
	for i := range r.changes {
		if one := &r.changes[i]; one.op == api.Difference_CREATE || one.op == api.Difference_UPDATE {
			for _, name := range r.after.intents {
				one.effects = append(one.effects, effects[name].words(name)...)
			}
			return
		}
	}
}

func (e *effect) words(intent fleet.Name) []string {
	if e == nil {
		return nil
	}
	var words []string
	say := func(n int, what string) {
		if n > 0 {
			words = append(words, fmt.Sprintf("intent %s: %d placement(s) %s", intent, n, what))
		}
	}
	say(e.added, "begin: first issuance")
	say(e.rotated, "rotate to a new certificate")
	say(e.restarted, "take another bundle")
	say(e.orphaned, "become orphans: files stay, renewal stops")
	return words
}

func (r *review) differences() []*api.Difference {
	var out []*api.Difference
	for _, one := range r.changes {
		out = append(out, &api.Difference{
			Op: one.op, Kind: string(one.key.Kind), Name: string(one.key.Name), Changes: one.diff, Effects: one.effects,
		})
	}
	return out
}

func wireFindings(findings []fleet.Finding) []*api.Finding {
	var out []*api.Finding
	for _, f := range findings {
		severity := api.Finding_WARNING
		if f.Severity == fleet.Error {
			severity = api.Finding_ERROR
		}
		out = append(out, &api.Finding{
			Severity: severity, File: f.Position.File, Line: int32(f.Position.Line),
			Document: f.Document, Rule: f.Rule, Message: f.Message, Remedy: f.Remedy,
		})
	}
	return out
}
