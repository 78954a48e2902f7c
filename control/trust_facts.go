package control

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// The rules that an Exception can set aside for a placement, a service, an
// agent or an operator, while a change of trust goes on.
const (
	ruleAdopt = "trust-adopt" // it need not have adopted the bundle
	ruleDrain = "trust-drain" // its certificate under the old authority does not count
)

// trustView is a change of trust with all that its phase follows from.
type trustView struct {
	change    store.TrustChange
	decisions []store.TrustDecision
	notices   []store.Notice
	facts     trust.Change
	step      trust.Step

	old, next trustEnd
	bridge    *store.Authority
	bundles   []store.Bundle // current ones that have the old root or the new one
	seats     map[string]partySeat
}

// trustEnd is one end of a change.
type trustEnd struct {
	root, issuing store.Authority
	anchor        *x509.Certificate
}

// partySeat is where a relying party is, for those who look for it.
type partySeat struct {
	placement, agent, service, evidence string
	orders                              []string
}

// viewTrust gathers what the store shows of a change now, and derives the rest.
func (c *Control) viewTrust(ctx context.Context, tx *store.Tx, change store.TrustChange) (*trustView, error) {
	v := &trustView{change: change, seats: map[string]partySeat{}}
	var err error
	if v.decisions, err = tx.TrustDecisions(ctx, change.ID); err != nil {
		return nil, err
	}
	if v.notices, err = tx.ChangeNotices(ctx, change.ID); err != nil {
		return nil, err
	}
	v.facts = decided(v.decisions)
	v.facts.Roots = change.Kind == store.RootChange
	if change.Standby && change.EndedAt.IsZero() {
		if change, err = c.fromNow(ctx, tx, change); err != nil {
			return nil, err
		}
		if v.facts.Standby = !v.facts.Back; v.facts.Standby {
			v.facts.Through, v.facts.Forced = trust.Prove, nil
		}
	}
	if v.old, err = readEnd(ctx, tx, change.OldRoot, change.OldIssuing); err != nil {
		return nil, err
	}
	if v.next, err = readEnd(ctx, tx, change.NewRoot, change.NewIssuing); err != nil {
		return nil, err
	}
	if v.facts.Back {
		v.old, v.next = v.next, v.old
	}
	v.facts.Old, v.facts.New = v.old.issuing.Name, v.next.issuing.Name
	if v.facts.Roots {
		v.facts.Old, v.facts.New = v.old.root.Name, v.next.root.Name
	}
	if v.facts.Foreign = v.old.root.Origin == store.KeyForeign; v.facts.Foreign {
		all, err := tx.Authorities(ctx)
		if err != nil {
			return nil, err
		}
		at := tx.Now
		if !change.EndedAt.IsZero() {
			at = change.EndedAt
		}
		_, _, v.facts.Provable = canaryAuthority(all, v.old.root, at)
	}
	v.facts.Active = v.next.issuing.State == fleet.AuthorityActive
	v.facts.Retired = v.old.issuing.State == fleet.AuthorityWithdrawn
	if change.Bridge != "" {
		bridge, err := tx.Authority(ctx, change.Bridge)
		if err != nil {
			return nil, err
		}
		v.bridge, v.facts.Bridged = &bridge, bridge.State != fleet.AuthorityWithdrawn
	}
	if err := v.readBundles(ctx, tx); err != nil {
		return nil, err
	}
	if change.EndedAt.IsZero() {
		v.readLead(tx.Now)
		if err := c.readParties(ctx, tx, v); err != nil {
			return nil, err
		}
		if err := c.readHolders(ctx, tx, v); err != nil {
			return nil, err
		}
		if err := v.readReissue(ctx, tx); err != nil {
			return nil, err
		}
	}
	v.step = v.facts.Next(tx.Now)
	if v.facts.Standby {
		return v, v.standbyAges(tx.Now)
	}
	return v, nil
}

// decided reads the operators' decisions.
func decided(decisions []store.TrustDecision) trust.Change {
	t := trust.Change{Through: trust.Drain, Forced: map[trust.Phase]string{}}
	for _, d := range decisions {
		switch phase := trust.Phase(d.Phase); d.Kind {
		case store.TrustAdvance:
			t.Paused = ""
			if t.Through.Before(phase) {
				t.Through = phase
			}
		case store.TrustPause:
			t.Paused = strings.TrimSuffix(fmt.Sprintf("by %s since %s: %s", d.By, d.At.Format("2006-01-02 15:04"), d.Reason), ": ")
		case store.TrustResume:
			t.Paused = ""
		case store.TrustBack:
			// What was let go on and forced was so in the other direction.
			t.Back, t.Paused, t.Through, t.Forced = true, "", trust.Done, map[trust.Phase]string{}
		case store.TrustForce:
			t.Forced[phase] = fmt.Sprintf("forced by %s at %s: %s", d.By, d.At.Format("2006-01-02 15:04"), d.Reason)
		}
	}
	return t
}

func readEnd(ctx context.Context, tx *store.Tx, root, issuing string) (end trustEnd, err error) {
	if end.root, err = tx.Authority(ctx, root); err != nil {
		return end, err
	}
	if end.issuing, err = tx.Authority(ctx, issuing); err != nil {
		return end, err
	}
	end.anchor, err = certificateOf(end.root)
	return end, err
}

func (v *trustView) readBundles(ctx context.Context, tx *store.Tx) error {
	all, err := tx.Bundles(ctx)
	if err != nil {
		return err
	}
	v.facts.Published, v.facts.Withdrawn = true, true
	for _, bundle := range all {
		before, after := hasAnchor(bundle, v.old.root), hasAnchor(bundle, v.next.root)
		if before || after {
			v.bundles = append(v.bundles, bundle)
		}
		v.facts.Published = v.facts.Published && (after || !before)
		v.facts.Withdrawn = v.facts.Withdrawn && !before
	}
	return nil
}

func hasAnchor(bundle store.Bundle, root store.Authority) bool {
	return slices.ContainsFunc(bundle.Anchors, func(der []byte) bool { return string(der) == string(root.Certificate) })
}

// readParties lists who relies on the bundles: each placement that one of them
// is delivered to, and each agent.
func (c *Control) readParties(ctx context.Context, tx *store.Tx, v *trustView) error {
	if !v.facts.Roots {
		return nil
	}
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return err
	}
	adopted, err := tx.NewestAdoptions(ctx)
	if err != nil {
		return err
	}
	fits := &fitting{v: v, known: map[string]bool{}}
	err = c.eachPlacement(ctx, tx, func(agent store.Agent, placement store.Placement) error {
		expanded, err := c.expand(w, agent, keyOf(placement), "")
		if placement.Orphan || err != nil || !v.concerns(expanded.Bundle) {
			return nil // what can't be expanded gets nothing new, and holds a certificate at most
		}
		party := trust.RelyingParty{ID: placement.ID, Name: placeName(placement), Subject: "agent/" + agent.ID, Needs: fleet.TrustLevel(expanded.Profile, expanded.Target, expanded.Proof), Away: !c.connected(agent.ID)}
		if report, err := storedReport(placement); err == nil {
			party.Why, party.Blocked = report.Reason, blockedEdges(report, string(expanded.Service), agent.ID)
		}
		one, ok := adopted[placement.ID]
		if ok {
			fit, err := fits.digest(ctx, tx, one.BundleDigest)
			if err != nil {
				return err
			}
			if party.Since = one.At; fit {
				party.Has = fleet.Level(one.Level)
			}
		}
		party.Excused = w.excused(tx.Now, ruleAdopt, placeSubjects(placement, expanded.Service)...)
		orders := v.readOrders(placement, expanded, &party)
		if report, err := storedReport(placement); err == nil && party.Link == "" && one.BundleDigest == report.BundleDigest && party.Has != "" {
			party.Link = brokenEdge(report, string(expanded.Service), agent.ID)
		}
		v.seats[party.Name] = partySeat{placement.ID, agent.ID, string(expanded.Service), one.Evidence, orders}
		v.facts.Parties = append(v.facts.Parties, party)
		if report, err := storedReport(placement); err == nil && report.BridgeDigest != "" {
			v.facts.Bridging = append(v.facts.Bridging, party.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.readOutside(tx.Now, w)
	anchors, err := tx.AgentAnchors(ctx)
	if err != nil {
		return err
	}
	for _, agent := range anchors {
		party := trust.RelyingParty{Name: "agent " + agent.AgentID, Subject: "agent/" + agent.AgentID, Needs: fleet.Loaded, Away: !c.connected(agent.AgentID), Since: agent.At}
		if agent.Digest != "" {
			fit, err := fits.digest(ctx, tx, agent.Digest)
			if err != nil {
				return err
			}
			if fit {
				party.Has = fleet.Loaded
			}
		}
		party.Excused = w.excused(tx.Now, ruleAdopt, "agent/"+agent.AgentID)
		v.seats[party.Name] = partySeat{agent: agent.AgentID}
		v.facts.Parties = append(v.facts.Parties, party)
	}
	return nil
}

// readOutside adds the parties without agents that call a service of ours, or
// are called by one: nobody here can see whom they trust, so each has to be
// asked, and its answer is an exception with an owner and an end.
//
// A change that is turned back before it has signed anything was nothing to them:
// they are shown what they always were, and have nothing to answer.
func (v *trustView) readOutside(now time.Time, w *world) {
	if v.facts.Back && v.old.issuing.State == fleet.AuthorityPrepared {
		return
	}
	for _, document := range w.set.OfKind(fleet.KindService) {
		service, _ := w.set.Service(document.Name)
		if !service.Outside || !w.hasNeighbours(document.Name, service) {
			continue
		}
		party := trust.RelyingParty{
			Name: "outside party " + string(document.Name), Needs: fleet.Delivered,
			Ask: service.Owner.Contact, Subject: "service/" + string(document.Name),
			Excused: w.excused(now, ruleAdopt, "service/"+string(document.Name)),
		}
		v.seats[party.Name] = partySeat{service: string(document.Name)}
		v.facts.Parties = append(v.facts.Parties, party)
	}
}

// hasNeighbours says whether a service calls one that is not outside, or is
// called by one.
func (w *world) hasNeighbours(name fleet.Name, service *fleet.Service) bool {
	ours := func(other fleet.Name) bool {
		declared, ok := w.set.Service(other)
		return ok && !declared.Outside
	}
	if slices.ContainsFunc(service.Clients, ours) {
		return true
	}
	return slices.ContainsFunc(w.set.OfKind(fleet.KindService), func(d fleet.Document) bool {
		other, _ := w.set.Service(d.Name)
		return !other.Outside && slices.Contains(other.Clients, name)
	})
}

// concerns says whether a bundle of the name has one of the change's anchors.
func (v *trustView) concerns(name fleet.Name) bool {
	return slices.ContainsFunc(v.bundles, func(b store.Bundle) bool { return b.Name == string(name) })
}

// fitting says which bundles are as they should be now: with the new anchor,
// and once the old one is withdrawn without it.
type fitting struct {
	v     *trustView
	known map[string]bool
}

func (f *fitting) digest(ctx context.Context, tx *store.Tx, text string) (bool, error) {
	if fit, ok := f.known[text]; ok {
		return fit, nil
	}
	digest, err := pki.ParseBundleDigest(text)
	if err != nil {
		return false, err
	}
	bundle, err := tx.BundleByDigest(ctx, digest)
	if err != nil && fault.CodeOf(err) != fault.NotFound { // a restored store knows less
		return false, err
	}
	f.known[text] = err == nil && hasAnchor(bundle, f.v.next.root) && !(f.v.facts.Withdrawn && hasAnchor(bundle, f.v.old.root))
	return f.known[text], nil
}

// eachPlacement calls each with all placements and their agents.
func (c *Control) eachPlacement(ctx context.Context, tx *store.Tx, each func(store.Agent, store.Placement) error) error {
	agents, err := tx.Agents(ctx)
	if err != nil {
		return err
	}
	byID := map[string]store.Agent{}
	for _, agent := range agents {
		byID[agent.ID] = agent
	}
	placements, err := tx.Placements(ctx)
	if err != nil {
		return err
	}
	for _, placement := range placements {
		if err := each(byID[placement.AgentID], placement); err != nil {
			return err
		}
	}
	return nil
}

// placeName is what people call a placement.
func placeName(placement store.Placement) string {
	name := placement.Intent
	if placement.Instance != "main" {
		name += "/" + placement.Instance
	}
	return name + " on agent " + placement.AgentID
}

// placeSubjects are the subjects of exceptions that mean a placement.
func placeSubjects(placement store.Placement, service fleet.Name) []string {
	subjects := []string{"placement/" + placement.ID, "agent/" + placement.AgentID, "intent/" + placement.Intent}
	if service != "" {
		subjects = append(subjects, "service/"+string(service))
	}
	return subjects
}

// excused is the exception in force that lets one of the subjects pass a rule,
// in words; empty: there is none.
func (w *world) excused(now time.Time, rule string, subjects ...string) string {
	for _, document := range w.set.OfKind(fleet.KindException) {
		exception := document.Spec.(*fleet.Exception)
		if exception.Rule == rule && exception.InForce(now) && slices.ContainsFunc(subjects, func(s string) bool { return strings.EqualFold(s, exception.Subject) }) {
			return fmt.Sprintf("%s, of %s until %s: %s", document.Name, exception.Owner,
				time.Time(exception.Until).UTC().Format("2006-01-02 15:04"), exception.Reason)
		}
	}
	return ""
}
