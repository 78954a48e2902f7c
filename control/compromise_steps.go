package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// A compromise is contained when what was in wrong hands is revoked, stands on the
// lists, the servers that take lists have them, and the sessions that were opened
// with it are closed; it is recovered from when what took its place was proven
// everywhere. All of that follows from facts. Who takes it all the same, since he
// looks at no list, is said beside it and holds nothing up: there is nothing that
// could be waited for but its end.

// mostWaits bounds how many are named that hold a step up.
const mostWaits = 100

// progress is how far a compromise's answer is.
type progress struct {
	steps        []*api.CompromiseStep
	trustChange  string
	remains      []string
	remainsUntil time.Time
}

func (p progress) complete(recovery bool) bool {
	return !slices.ContainsFunc(p.steps, func(step *api.CompromiseStep) bool { return step.Recovery == recovery && !step.Complete })
}

func (c *Control) progressOf(ctx context.Context, tx *store.Tx, record store.Compromise) (progress, error) {
	var p progress
	var err error
	if record.RevocationID == "" {
		p.steps, p.trustChange, err = c.authoritySteps(ctx, tx, record)
		return p, err
	}
	parts, err := tx.RevocationParts(ctx, record.RevocationID)
	if err != nil {
		return p, err
	}
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return p, err
	}
	common, err := c.commonAt(ctx, tx)
	if err != nil {
		return p, err
	}
	l := &lost{Control: c, tx: tx, record: record, parts: parts, world: w, common: common}
	if l.sessions, err = c.closedSessions(ctx, tx, record.RevocationID); err != nil {
		return p, err
	}
	for _, step := range []func(context.Context) (*api.CompromiseStep, error){l.revoked, l.listed, l.delivered, l.closed, l.replaced} {
		one, err := step(ctx)
		if err != nil {
			return p, err
		}
		if one.Of > 0 {
			one.Complete = one.Done == one.Of && len(one.Waits) == 0
			p.steps = append(p.steps, one)
		}
	}
	p.remains, p.remainsUntil = l.remains()
	return p, nil
}

// lost is the answer to what holders of certificates lost.
type lost struct {
	*Control
	tx       *store.Tx
	record   store.Compromise
	parts    []store.Certificate
	world    *world
	common   *common
	sessions []*api.ClosedSessions
}

// waitOn names who holds a step up, once for what he holds up by: a placement has
// many certificates.
func waitOn(step *api.CompromiseStep, who, reason, remedy string) {
	said := func(w *api.CompromiseWait) bool { return w.Who == who && w.Reason == reason && w.Remedy == remedy }
	if len(step.Waits) < mostWaits && !slices.ContainsFunc(step.Waits, said) {
		step.Waits = append(step.Waits, &api.CompromiseWait{Who: who, Reason: reason, Remedy: remedy})
	}
}

// over says whether nobody takes a certificate any more, whatever he looks at.
func (l *lost) over(part store.Certificate) bool { return part.NotAfter.Before(l.tx.Now) }

func (l *lost) name(part store.Certificate) string {
	switch {
	case part.Intent != "":
		return part.Intent + " on agent " + part.AgentID
	case part.AgentID != "":
		return "agent " + part.AgentID
	}
	return part.Names
}

func (l *lost) revoked(ctx context.Context) (*api.CompromiseStep, error) {
	step := &api.CompromiseStep{Name: "revoked", Of: int32(len(l.parts))}
	for _, part := range l.parts {
		if !part.RevokedAt.IsZero() || l.over(part) {
			step.Done++
			continue
		}
		waits, err := l.waitsFor(ctx, l.tx, part)
		if err != nil {
			return nil, err
		}
		remedy, err := l.remedyFor(ctx, part)
		if err != nil {
			return nil, err
		}
		if remedy != "" {
			remedy += fmt.Sprintf("; rotunda revoke serial %s --now waits for nothing", part.Serial)
		}
		waitOn(step, l.name(part), waits, remedy)
	}
	return step, nil
}

// remedyFor says what an operator can do for a successor that does not come by
// itself.
func (l *lost) remedyFor(ctx context.Context, part store.Certificate) (string, error) {
	if l.record.Kind == store.CompromisedAgent {
		return fmt.Sprintf("rebuild the host, then rotunda agent rejoin %s; or rotunda agent retire %s", part.AgentID, part.AgentID), nil
	}
	if part.PlacementID == "" {
		return "", nil
	}
	placement, err := l.tx.Placement(ctx, part.PlacementID)
	if err != nil || placement.FailedAt.IsZero() && l.connected(part.AgentID) {
		return "", err // it comes
	}
	return fmt.Sprintf("rotunda describe placement %s says why", part.PlacementID), nil
}

func (l *lost) listed(ctx context.Context) (*api.CompromiseStep, error) {
	step := &api.CompromiseStep{Name: "on the lists"}
	lists, err := l.tx.WholeLists(ctx)
	if err != nil {
		return nil, err
	}
	for _, part := range l.parts {
		if l.over(part) {
			continue
		}
		step.Of++
		listed, err := onEveryList(ctx, l.tx, part, lists)
		if err != nil {
			return nil, err
		}
		if listed && !part.RevokedAt.IsZero() {
			step.Done++
			continue
		}
		reason := "its authority's list is about to be signed"
		if part.RevokedAt.IsZero() {
			reason = "it is not revoked yet"
		}
		waitOn(step, l.name(part), reason, "")
	}
	return step, nil
}

// delivered counts the servers that take lists and have the one that is wanted of
// them now. Those of a host in wrong hands do not count: what they refuse helps
// nobody.
func (l *lost) delivered(ctx context.Context) (*api.CompromiseStep, error) {
	step := &api.CompromiseStep{Name: "lists in use"}
	if l.common.lists == nil {
		return step, nil
	}
	placements, err := l.tx.Placements(ctx)
	if err != nil {
		return nil, err
	}
	for _, placement := range placements {
		if placement.Orphan || l.record.Kind == store.CompromisedAgent && placement.AgentID == l.record.Name {
			continue
		}
		agent, err := l.tx.Agent(ctx, placement.AgentID)
		if err != nil {
			return nil, err
		}
		expanded, err := l.expand(l.world, agent, keyOf(placement), "")
		if err != nil || agent.State != fleet.AgentActive || !takesLists(expanded) {
			continue // what it can't be is not wanted of it either
		}
		if err := l.oneDelivered(step, placement, expanded); err != nil {
			return nil, err
		}
	}
	return step, nil
}

func (l *lost) oneDelivered(step *api.CompromiseStep, placement store.Placement, expanded fleet.Expanded) error {
	bundle, err := l.common.digest(expanded.Bundle)
	if err != nil {
		return err
	}
	wanted := l.common.lists.byBundle[bundle]
	if !l.concerns(wanted) {
		return nil
	}
	report, err := storedReport(placement)
	if err != nil {
		return err
	}
	step.Of++
	who := placement.Intent + " on agent " + placement.AgentID
	switch {
	case wanted.missing != "":
		waitOn(step, who, "no list is delivered: "+wanted.missing, "")
	case report.CrlDigest == wanted.digest.String():
		step.Done++
	case report.CrlAside != "":
		waitOn(step, who, report.CrlAside, "")
	case !l.connected(placement.AgentID):
		waitOn(step, who, "its agent is not connected", "")
	default:
		waitOn(step, who, "has an older list in use", "")
	}
	return nil
}

// concerns says whether a list of lists is one that names what was revoked.
func (l *lost) concerns(wanted listing) bool {
	if wanted.missing != "" {
		return true
	}
	for _, head := range wanted.heads {
		if slices.ContainsFunc(l.parts, func(part store.Certificate) bool { return part.AuthorityID == head.AuthorityID && !l.over(part) }) {
			return true
		}
	}
	return false
}

// closed counts the servers that were told to close sessions and have said what
// came of it. That of one that can't is among what remains.
func (l *lost) closed(context.Context) (*api.CompromiseStep, error) {
	step := &api.CompromiseStep{Name: "sessions closed"}
	for _, one := range l.sessions {
		step.Of++
		if one.Outcome != api.Outcome_OUTCOME_UNSPECIFIED {
			step.Done++
			continue
		}
		reason := "has not said what came of it"
		if !l.connected(one.Agent) {
			reason = "its agent is not connected"
		}
		waitOn(step, one.Intent+" on agent "+one.Agent, reason, "")
	}
	return step, nil
}

// replaced counts what has its successor in use, as far as its intent asks.
func (l *lost) replaced(ctx context.Context) (*api.CompromiseStep, error) {
	step := &api.CompromiseStep{Name: "new keys in use", Recovery: true}
	for _, part := range l.parts {
		if part.Kind == store.KindCanary || part.Kind == store.KindOperator {
			continue // nothing takes their place
		}
		step.Of++
		waits, err := l.waitsFor(ctx, l.tx, part)
		if err != nil {
			return nil, err
		}
		if waits == "" {
			step.Done++
			continue
		}
		remedy, err := l.remedyFor(ctx, part)
		if err != nil {
			return nil, err
		}
		waitOn(step, l.name(part), waits, remedy)
	}
	if l.record.RolloutID == "" || step.Done == step.Of {
		return step, nil
	}
	record, err := l.tx.Rollout(ctx, l.record.RolloutID)
	if err != nil {
		return nil, err
	}
	f, err := l.openFacts(ctx, l.tx, record)
	if err != nil {
		return nil, err
	}
	info, err := f.info(record, l.tx.Now)
	if err != nil {
		return nil, err
	}
	if info.State == string(rollout.Paused) || info.State == string(rollout.Aborted) || info.State == string(rollout.RolledBack) {
		waitOn(step, "rollout "+record.Name, "is "+info.State, "rotunda rollout status "+record.Name)
	}
	for _, reason := range info.Reasons {
		waitOn(step, fmt.Sprintf("rollout %s, wave %d", record.Name, reason.Wave), reason.Text, "rotunda rollout status "+record.Name)
	}
	return step, nil
}

// remains says who takes what was revoked all the same, and until when.
func (l *lost) remains() (words []string, until time.Time) {
	var services []fleet.Name
	for _, part := range l.parts {
		if l.over(part) {
			continue
		}
		if part.NotAfter.After(until) {
			until = part.NotAfter
		}
		intent, ok := l.world.set.Intent(fleet.Name(part.Intent))
		if ok && !slices.Contains(services, intent.Service) {
			services = append(services, intent.Service)
		}
	}
	for _, service := range services {
		words = append(words, l.world.blind(service)...)
		if clients := l.world.clientsOf(service); len(clients) > 0 {
			words = append(words, fmt.Sprintf("clients of service %s (%s) may take whoever shows its old certificate for it: no process is known here to look at lists when it calls", service, strings.Join(clients, ", ")))
		}
	}
	for _, one := range l.sessions {
		if one.Outcome != api.Outcome_OUTCOME_UNSPECIFIED && one.Outcome != api.Outcome_OUTCOME_DONE {
			words = append(words, fmt.Sprintf("sessions at %s on agent %s: %s", one.Intent, one.Agent, one.Words))
		}
	}
	if len(words) == 0 {
		until = time.Time{}
	}
	return words, until
}

// clientsOf are the services that call a service which shows certificates as a
// server.
func (w *world) clientsOf(name fleet.Name) (clients []string) {
	service, ok := w.set.Service(name)
	shows := slices.ContainsFunc(w.intents, func(one fleet.Name) bool {
		intent, _ := w.set.Intent(one)
		profile, known := w.set.Profile(intent.Profile)
		return intent.Service == name && known && slices.Contains(profile.Usages, fleet.ServerAuth)
	})
	if !ok || !shows {
		return nil
	}
	for _, client := range service.Clients {
		clients = append(clients, string(client))
	}
	return clients
}
