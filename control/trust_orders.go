package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// What a change of trust asks of targets beside their files: links within a
// cluster survive every wrong state until they reconnect, so each is broken and
// seen to come back after each phase; and sessions that were opened under a
// root outlive it.

// orderAgain is how long an order that failed rests before it is given anew.
const orderAgain = 30 * time.Second

// openChange is a change under way as the desire of single placements needs
// it.
type openChange struct {
	store.TrustChange
	old, next           trustEnd
	all                 []store.Authority
	bridge              string // digest of what placements send along; empty: nothing
	published, withdrew bool   // of the domain-wide bundle
}

// openChange is the change of roots that is under way; nil: there is none.
func (c *Control) openChange(ctx context.Context, tx *store.Tx) (*openChange, error) {
	open, err := tx.OpenTrustChanges(ctx)
	if err != nil {
		return nil, err
	}
	change, ok := underWay(open)
	if !ok || change.Kind != store.RootChange {
		return nil, nil
	}
	if change.Standby {
		if change, err = c.fromNow(ctx, tx, change); err != nil {
			return nil, err
		}
	}
	o := &openChange{TrustChange: change}
	decisions, err := tx.TrustDecisions(ctx, o.ID)
	if err != nil {
		return nil, err
	}
	if o.old, err = readEnd(ctx, tx, o.OldRoot, o.OldIssuing); err != nil {
		return nil, err
	}
	if o.next, err = readEnd(ctx, tx, o.NewRoot, o.NewIssuing); err != nil {
		return nil, err
	}
	if o.all, err = tx.Authorities(ctx); err != nil {
		return nil, err
	}
	back := decided(decisions).Back
	if back {
		o.old, o.next = o.next, o.old
	}
	if o.Bridge != "" && o.Carry && !back {
		record, err := tx.Authority(ctx, o.Bridge)
		if err != nil {
			return nil, err
		}
		if record.State == fleet.AuthorityActive {
			o.bridge = pki.FingerprintOf(record.Certificate).String()
		}
	}
	domain, err := tx.CurrentBundle(ctx, string(fleet.DefaultBundle))
	if err != nil {
		return nil, err
	}
	o.published, o.withdrew = hasAnchor(domain, o.next.root), !hasAnchor(domain, o.old.root)
	return o, nil
}

// desire adds to what is wanted at a placement what the change asks of it.
func (o *openChange) desire(ctx context.Context, tx *store.Tx, placement store.Placement, expanded fleet.Expanded, desired *api.DesiredPlacement) error {
	if o == nil || expanded.Names == nil {
		return nil
	}
	desired.BridgeDigest = o.bridge
	phase, err := o.phaseAt(ctx, tx, placement)
	if err != nil || phase == "" {
		return err
	}
	report, err := storedReport(placement)
	if err != nil {
		return err
	}
	if linked(expanded.Target) {
		id := orderID(report, linksOrder(o.ID, phase), tx.Now)
		desired.Orders = append(desired.Orders, &api.TargetOrder{Id: id, Act: api.Act_ACT_RECONNECT_LINKS})
	}
	if phase == trust.Refuse && o.Close && expanded.Target.ClientAuth != "" && expanded.Target.ClientAuth != "none" {
		id := orderID(report, o.ID+".sessions", tx.Now)
		desired.Orders = append(desired.Orders, &api.TargetOrder{
			Id: id, Act: api.Act_ACT_CLOSE_SESSIONS, IssuerCerts: o.oldIssuers(),
		})
	}
	return nil
}

// oldIssuers are the certificates of all that signed under the old root, whichever
// region's it was.
func (o *openChange) oldIssuers() [][]byte {
	issuers := [][]byte{o.old.issuing.Certificate}
	for _, one := range issuingUnder(o.all, o.old.root.ID) {
		if one.ID != o.old.issuing.ID {
			issuers = append(issuers, one.Certificate)
		}
	}
	return issuers
}

// phaseAt is the last phase that has reached the placement's files; empty:
// none has.
func (o *openChange) phaseAt(ctx context.Context, tx *store.Tx, placement store.Placement) (trust.Phase, error) {
	switch {
	case o.withdrew:
		return trust.Refuse, nil
	case !o.published || placement.Generation == 0:
		return "", nil
	case o.next.issuing.State != fleet.AuthorityActive:
		return trust.Prove, nil
	}
	leaf, err := tx.PlacementCertificate(ctx, placement.ID, placement.Generation)
	if err != nil || !slices.ContainsFunc(issuingUnder(o.all, o.next.root.ID), func(one store.Authority) bool { return one.ID == leaf.AuthorityID }) {
		return "", err
	}
	return trust.Reissue, nil
}

// linked says whether a target has links within a cluster that can be broken
// over its control path.
func linked(t fleet.Target) bool {
	return t.Cluster != "" && (t.Kind == fleet.TargetRedis || t.Kind == fleet.TargetPostgres)
}

// againMark stands before the moment at which an order is given anew. Agents
// take letters, digits, '-', '_' and '.' in the id of an order.
const againMark = "again-"

func linksOrder(changeID string, phase trust.Phase) string {
	return changeID + ".links." + string(phase)
}

// orderID names an order. One that failed is given anew under another name
// after a rest, since an agent does not try again by itself.
func orderID(report *api.PlacementReport, base string, now time.Time) string {
	for _, done := range report.Orders {
		if !strings.HasPrefix(done.Id, base) {
			continue
		}
		if at := done.At.AsTime(); done.Outcome == api.Outcome_OUTCOME_FAILED && now.Sub(at) > orderAgain {
			return fmt.Sprintf("%s.%s%d", base, againMark, at.Unix())
		}
		return done.Id
	}
	return base
}

// orderName says what an order was about.
func orderName(id string) string {
	_, what, _ := strings.Cut(id, ".")
	what, _, _ = strings.Cut(what, "."+againMark)
	return what
}

// readOrders notes what became of the change's orders at a placement: links
// that did not come back hold the change, the rest is for people to read.
func (v *trustView) readOrders(placement store.Placement, expanded fleet.Expanded, party *trust.RelyingParty) []string {
	report, err := storedReport(placement)
	if err != nil {
		return nil
	}
	var words []string
	wanted := ""
	if linked(expanded.Target) {
		switch {
		case v.facts.Withdrawn:
			wanted = linksOrder(v.change.ID, trust.Refuse)
		case v.facts.Active:
			wanted = linksOrder(v.change.ID, trust.Reissue)
		case v.facts.Published:
			wanted = linksOrder(v.change.ID, trust.Prove)
		}
	}
	if wanted != "" {
		party.Link = "its links within cluster " + placement.Cluster + " have not been seen to reconnect"
	}
	for _, done := range report.Orders {
		if !strings.HasPrefix(done.Id, v.change.ID+".") {
			continue
		}
		outcome := strings.ToLower(strings.TrimPrefix(done.Outcome.String(), "OUTCOME_"))
		words = append(words, short(fmt.Sprintf("%s: %s: %s", orderName(done.Id), outcome, done.Words)))
		if wanted != "" && strings.HasPrefix(done.Id, wanted) {
			switch done.Outcome {
			case api.Outcome_OUTCOME_DONE, api.Outcome_OUTCOME_IMPOSSIBLE:
				party.Link = ""
			default:
				party.Link = "its links within cluster " + placement.Cluster + " did not come back: " + short(done.Words)
			}
		}
	}
	return words
}
