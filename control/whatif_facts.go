package control

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
	"github.com/rotunda-pki/rotunda/whatif"
)

// supposing is a proposal while its facts are read.
type supposing struct {
	*Control
	tx     *store.Tx
	all    []store.Authority
	now    trustEnd // that signs today
	issuer *x509.Certificate
	view   *trustView
	signed []store.Authority // issuing authorities that go
	told   whatif.Supposed
}

// suppose reads the facts of a proposal.
func (c *Control) suppose(ctx context.Context, tx *store.Tx, proposal whatif.Proposal) (whatif.Supposed, error) {
	s := &supposing{Control: c, tx: tx, told: whatif.Supposed{Proposal: proposal, Means: map[string]whatif.Means{}}}
	var err error
	if s.told.Facts, err = c.graphFacts(ctx, tx); err != nil {
		return s.told, err
	}
	if s.all, err = tx.Authorities(ctx); err != nil {
		return s.told, err
	}
	record, err := c.supposedOf(ctx, tx, proposal)
	if err != nil {
		return s.told, err
	}
	if s.issuer, err = certificateOf(record); err != nil {
		return s.told, err
	}
	if s.now, err = readEnd(ctx, tx, record.ParentID, record.ID); err != nil {
		return s.told, err
	}
	switch proposal.Kind {
	case whatif.WithdrawNow:
		err = s.withdrawal(ctx)
	case whatif.Failover:
		err = s.failover(ctx)
	default:
		err = s.rotation(ctx)
	}
	if err != nil {
		return s.told, err
	}
	s.told.Trust = s.view.facts
	return s.told, s.means(ctx)
}

// supposedOf is the issuing authority that a proposal is about: that of the region,
// or of none, whose it is.
func (c *Control) supposedOf(ctx context.Context, tx *store.Tx, proposal whatif.Proposal) (store.Authority, error) {
	if proposal.Kind == whatif.RotateIssuing {
		return c.replaced(ctx, tx, &api.PrepareTrustRequest{Kind: string(store.IssuingChange), Region: proposal.Authority})
	}
	by, err := c.issuer(ctx, tx)
	if err != nil {
		return store.Authority{}, err
	}
	return tx.Authority(ctx, by.ID)
}

// authority is the graph's own word for a record.
func (s *supposing) authority(id string) graph.Authority {
	for _, one := range s.told.Facts.Authorities {
		if one.ID == id {
			return one
		}
	}
	return graph.Authority{}
}

// rotation supposes that a new root, or a new issuing authority, has just been
// prepared, as rotunda trust rotate would.
func (s *supposing) rotation(ctx context.Context) error {
	open, err := s.tx.OpenTrustChanges(ctx)
	if err != nil {
		return err
	}
	if one, ok := underWay(open); ok && !one.Standby {
		s.told.Stops = append(s.told.Stops, fmt.Sprintf("trust change %s is under way since %s, and one goes on at a time: rotunda trust status", one.ID, one.BegunAt.Format("2006-01-02 15:04")))
	}
	v := &trustView{change: store.TrustChange{Kind: store.IssuingChange}, old: s.now, next: s.now, seats: map[string]partySeat{}}
	s.view = v
	v.facts = trust.Change{Through: trust.Drain, Old: s.now.issuing.Name, New: nextName(s.all, issuingOf(s.now.issuing.Region))}
	s.told.Old, s.signed = s.authority(s.now.issuing.ID), []store.Authority{s.now.issuing}
	key := fmt.Sprintf("the key of %s (%s)", s.now.root.Name, s.now.root.Origin)
	if s.told.Kind == whatif.RotateIssuing {
		s.told.Signs = []string{fmt.Sprintf("rotunda trust rotate issuing%s: %s signs %s", regionFlag(s.now.issuing.Region), key, v.facts.New)}
		return s.readParties(ctx)
	}
	v.change.Kind, v.facts.Roots = store.RootChange, true
	v.facts.Old, v.facts.New = s.now.root.Name, nextName(s.all, rootName)
	s.told.Old, s.told.Bridge = s.authority(s.now.root.ID), true
	if err := s.supposeRoot(); err != nil {
		return err
	}
	v.facts.Bridged = s.told.BridgeLess == ""
	signs := fmt.Sprintf("rotunda trust rotate root: the key of %s, made with it, signs itself and the new issuing authority", v.facts.New)
	if v.facts.Bridged {
		signs += fmt.Sprintf("; %s signs the bridge", key)
	}
	s.told.Signs = []string{signs}
	return s.readParties(ctx)
}

// regionFlag is what names a region to rotunda trust rotate issuing.
func regionFlag(region string) string {
	if region == "" {
		return ""
	}
	return " --of-region " + region
}

// failover supposes that the root which stands by takes over now.
func (s *supposing) failover(ctx context.Context) error {
	change, notes, err := s.checkFailover(ctx, s.tx, Caller{}, &api.BeginTrustRequest{})
	if err != nil {
		return err
	}
	if s.view, err = s.viewTrust(ctx, s.tx, change); err != nil {
		return err
	}
	s.told.Old, s.told.Bridge = s.authority(s.now.root.ID), true
	if change.Bridge == "" {
		s.told.BridgeLess = "none was made between them"
	}
	s.told.Signs = append([]string{"rotunda trust failover: nothing has to be signed"}, notes...)
	return nil
}

// supposeRoot makes a root, and an issuing authority as the one of today under
// it, that nobody ever sees: to find out whether there can be a bridge.
func (s *supposing) supposeRoot() error {
	order, err := s.nextIssuing(s.tx, s.issuer, &api.PrepareTrustRequest{})
	if err != nil {
		return err
	}
	order.Algorithm = pki.ECDSAP256
	root, key, err := ca.CreateRoot(s.tx.Now, ca.RootOrder{
		TrustDomain: s.domain, Name: fmt.Sprintf("%s root supposed at %s", s.domain.Name(), s.tx.Now.Format(time.RFC3339)),
		Algorithm: pki.ECDSAP256, Lifetime: s.now.anchor.NotAfter.Sub(s.now.anchor.NotBefore).Truncate(time.Second),
	})
	if err != nil {
		return err
	}
	issuing, _, err := ca.CreateIssuing(s.tx.Now, root, key, order, s.publicURL)
	if err != nil {
		return err
	}
	s.view.next = trustEnd{root: store.Authority{Name: s.view.facts.New, Certificate: root.Raw}, anchor: root}
	if err := ca.CheckBridge(s.tx.Now, s.now.anchor, root, issuing); err != nil {
		s.told.BridgeLess = fault.Public(err)
	}
	return nil
}

// readParties reads who relies on what goes, and who holds certificates of it.
func (s *supposing) readParties(ctx context.Context) error {
	v := s.view
	if v.facts.Roots {
		wasIt := v.facts
		if err := v.readBundles(ctx, s.tx); err != nil {
			return err
		}
		v.facts.Published, v.facts.Withdrawn = wasIt.Published, false
	}
	if err := s.Control.readParties(ctx, s.tx, v); err != nil {
		return err
	}
	for _, issuing := range s.signed {
		v.old.issuing = issuing
		if err := s.readHolders(ctx, s.tx, v); err != nil {
			return err
		}
	}
	return nil
}

// withdrawal supposes that an authority that is known here goes now.
func (s *supposing) withdrawal(ctx context.Context) error {
	record, err := s.named(s.told.Authority)
	if err != nil {
		return err
	}
	s.told.Old = s.authority(record.ID)
	v := &trustView{old: trustEnd{root: record}, next: s.now, seats: map[string]partySeat{}}
	s.view = v
	v.facts = trust.Change{Through: trust.Drain, Old: record.Name, New: s.now.root.Name, Roots: true, Published: true, Active: true}
	if record.Kind == store.IssuingAuthority {
		v.change.Kind = store.IssuingChange
		v.facts.Roots, v.facts.New, s.signed = false, s.now.issuing.Name, []store.Authority{record}
		if record.State == fleet.AuthorityActive {
			s.told.Stops = []string{fmt.Sprintf("%s signs now: without it nothing is issued or renewed for %s. First: rotunda trust rotate issuing%s (rotunda plan --change %s)",
				record.Name, regionWords(record.Region), regionFlag(record.Region), whatif.Proposal{Kind: whatif.RotateIssuing, Authority: record.Region})}
		}
		return s.readParties(ctx)
	}
	v.change.Kind = store.RootChange
	if v.old.anchor, err = certificateOf(record); err != nil {
		return err
	}
	for _, one := range s.all {
		if one.Kind == store.IssuingAuthority && one.ParentID == record.ID && one.State != fleet.AuthorityWithdrawn {
			s.signed = append(s.signed, one)
		}
		if one.CrossOf == s.now.root.ID && one.ParentID == record.ID && one.State != fleet.AuthorityWithdrawn {
			v.facts.Bridged = true
		}
	}
	if err := s.underWay(ctx, record); err != nil {
		return err
	}
	if record.ID == s.now.root.ID {
		s.told.Stops = []string{record.Name + " is the root above " + s.now.issuing.Name + ", which signs now. First: rotunda trust rotate root (rotunda plan --change rotate-root)"}
	}
	if err := s.trusted(ctx, record); err != nil {
		return err
	}
	return s.readParties(ctx)
}

// underWay takes over what operators have decided on the change at whose end the
// root is withdrawn, if there is one.
func (s *supposing) underWay(ctx context.Context, root store.Authority) error {
	open, err := s.tx.OpenTrustChanges(ctx)
	if err != nil {
		return err
	}
	for _, change := range open {
		v, err := s.viewTrust(ctx, s.tx, change)
		if err != nil {
			return err
		}
		if v.facts.Roots && v.old.root.ID == root.ID {
			facts := &s.view.facts
			facts.Through, facts.Paused, facts.Forced, facts.Bridging = v.facts.Through, v.facts.Paused, v.facts.Forced, v.facts.Bridging
		}
	}
	return nil
}

// named is the authority of a name or an id that could be withdrawn.
func (s *supposing) named(name string) (store.Authority, error) {
	for _, one := range s.all {
		if one.Name != name && one.ID != name {
			continue
		}
		switch {
		case one.CrossOf != "":
			return one, fault.New(fault.Invalid, "%s is a bridge: no bundle has it, so nobody's trust hangs on it alone", one.Name).
				WithRemedy("name the root that it leads to: withdraw:ROOT")
		case one.State == fleet.AuthorityWithdrawn:
			return one, fault.New(fault.Conflict, "%s is withdrawn already", one.Name).WithRemedy("rotunda get authorities shows the state of each")
		}
		return one, nil
	}
	return store.Authority{}, fault.New(fault.NotFound, "authority %s is not recorded here", printable(name)).
		WithRemedy("rotunda get authorities lists those that are")
}

// trusted refuses a root that no bundle has, and names the bundles that would
// have no anchor without it.
func (s *supposing) trusted(ctx context.Context, root store.Authority) error {
	bundles, err := s.tx.Bundles(ctx)
	if err != nil {
		return err
	}
	var empty []string
	found := false
	for _, bundle := range bundles {
		if hasAnchor(bundle, root) {
			found = true
			if len(bundle.Anchors) == 1 {
				empty = append(empty, bundle.Name)
			}
		}
	}
	if !found {
		return fault.New(fault.Invalid, "%s is not trusted: no bundle has it, so there is nothing to withdraw", root.Name).
			WithRemedy("rotunda graph shows which roots are trusted, and by whom")
	}
	if len(empty) > 0 {
		s.told.Stops = append(s.told.Stops, fmt.Sprintf("it is the only anchor of %s: a bundle needs at least one", strings.Join(empty, ", ")))
	}
	return nil
}

// means reads what the processes behind the parties can do: the row of their
// kind in the table, and what their intents name.
func (s *supposing) means(ctx context.Context) error {
	w, err := s.worldAt(ctx, s.tx)
	if err != nil {
		return err
	}
	agents, err := s.tx.Agents(ctx)
	if err != nil {
		return err
	}
	seen, regions := map[string]time.Time{}, map[string]string{}
	for _, agent := range agents {
		seen[agent.ID], regions[agent.ID] = agent.SeenAt, agent.Region
		s.told.Means["agent "+agent.ID] = whatif.Means{Kind: "agent", AwaySince: agent.SeenAt}
	}
	for _, party := range s.told.Trust.Parties {
		if party.Ask != "" {
			s.told.Means[party.Name] = whatif.Means{Service: fleet.Name(s.view.seats[party.Name].service)}
		}
	}
	for _, holder := range s.told.Trust.Holders {
		switch {
		case holder.ID == "server":
			s.told.Means[holder.Name] = whatif.Means{Kind: "server"}
		case holder.ID == "" && strings.HasPrefix(holder.Name, "operator "):
			s.told.Means[holder.Name] = whatif.Means{Kind: "operator"}
		}
	}
	for _, place := range s.told.Facts.Places {
		name := placeName(store.Placement{Intent: place.Intent, Instance: place.Instance, AgentID: place.Agent})
		var one whatif.Means
		if in, ok := w.set.Intent(fleet.Name(place.Intent)); ok {
			if capabilities, known := adapterOf(in.Target.Kind); known {
				one = whatif.MeansOf(in, capabilities, place.Serves)
			}
		}
		one.Place, one.Service, one.Kind, one.AwaySince = place.ID, place.Service, "placement", seen[place.Agent]
		one.Intent, one.Region = fleet.Name(place.Intent), regions[place.Agent]
		one.Cluster, one.Member, one.Shown = place.Cluster, schedule.Member{Agent: place.Agent, Target: place.Target}, place.Adopted
		s.told.Means[name] = one
	}
	return nil
}
