package control

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// spooled is a certificate that was issued without the store, as its record in the
// spool has it: all that handing it in takes.
type spooled struct {
	Record store.Certificate
	Basis  store.Standing // that the decision rested on
	Newest uint64         // generation that the snapshot had
	Seen   time.Time      // when the snapshot was made
	Shown  string         // serial of the certificate that the agent showed
	From   string         // address
	Away   string         // see grant
	Epoch  uint64
	Chain  [][]byte
}

// identifyCutOff is Identify on the snapshot.
func (c *Control) identifyCutOff(serial pki.Serial) (identified, error) {
	s := &c.cutOff
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cut.Load() {
		return identified{}, errInContact
	}
	id, known := s.snapshot.callers[serial]
	if !known {
		return id, s.cant("client certificate %s is not known as an agent's of this region", serial)
	}
	return id, nil
}

// errInContact is for who came while the store was coming back.
var errInContact = fault.New(fault.Unavailable, "the store is back").WithRemedy("ask again")

// cant refuses what a server can't do while it is cut off.
func (s *cutOff) cant(format string, args ...any) error {
	return fault.New(fault.Unavailable, "this server is cut off from its store and only renews what it knows: "+format, args...).
		WithRemedy("another region's servers do it; here it is done when the store is back")
}

// HeartCutOff is what an agent is told at a cut-off server: that it is there. It is
// older than all that agents have seen, so it changes nothing.
func (c *Control) HeartCutOff(caller Caller) (*api.DesiredState, error) {
	if err := authorize(caller, "agent.connect"); err != nil {
		return nil, err
	}
	s := &c.cutOff
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cut.Load() {
		return nil, errInContact
	}
	return &api.DesiredState{Epoch: s.snapshot.epoch, ServerTime: stamp(c.now())}, nil
}

// IssueCutOff renews by the snapshot into the spool. None leaves before all of the
// call are on the disk.
func (c *Control) IssueCutOff(caller Caller, req *api.IssueRequest) (*api.IssueResponse, error) {
	if err := authorize(caller, "issue"); err != nil {
		return nil, err
	}
	if len(req.Requests) > maxIssueSlice {
		return nil, fault.New(fault.Invalid, "%d requests in one call, at most %d may be", len(req.Requests), maxIssueSlice)
	}
	s := &c.cutOff
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.cut.Load():
		return nil, errInContact
	case s.handing != nil:
		return nil, fault.New(fault.Unavailable, "the store is back, and what was signed without it is not handed in yet: %s", fault.Public(s.handing)).
			WithRemedy("the server's log has the reason")
	}
	orders := make([]*order, len(req.Requests))
	var fresh []*spooled
	var records [][]byte
	for i, request := range req.Requests {
		o := &order{caller: caller, request: request}
		orders[i] = o
		if o.readCSR(); o.err != nil {
			continue
		}
		one, err := c.renewCutOff(caller, o, len(records))
		if o.err = err; err != nil || one == nil {
			continue
		}
		record, err := json.Marshal(one)
		if o.err = err; err == nil {
			fresh, records = append(fresh, one), append(records, record)
		}
	}
	if len(records) > 0 {
		err := s.spool.Append(records...)
		if s.failing = err != nil; err != nil {
			return nil, err
		}
	}
	for _, one := range fresh {
		s.keep(*one)
	}
	response := &api.IssueResponse{}
	for _, o := range orders {
		response.Results = append(response.Results, c.result(o))
	}
	return response, nil
}

// keep notes what was spooled, for who asks again.
func (s *cutOff) keep(one spooled) {
	at := s.given[one.Record.PlacementID]
	if at == nil {
		at = &given{chains: map[uint64]spooled{}}
		s.given[one.Record.PlacementID] = at
	}
	at.newest = max(at.newest, one.Record.Generation)
	at.chains[one.Record.Generation] = one
}

// renewCutOff signs one order, or finds what it got already; then it is nil.
func (c *Control) renewCutOff(caller Caller, o *order, more int) (*spooled, error) {
	s := &c.cutOff
	spki, err := pki.SPKIHashOf(o.csr.PublicKey)
	if err != nil {
		return nil, err
	}
	id, number := o.request.PlacementId, o.request.Generation
	stood, known := s.snapshot.stood[id]
	if !known || stood.AgentID != caller.ID {
		return nil, s.cant("placement %s is not known here as one of agent %s that has had a certificate", printable(id), caller.ID)
	}
	newest := stood.Newest
	if before := s.given[id]; before != nil {
		if same, ok := before.chains[number]; ok {
			if same.Record.SPKI != spki {
				return nil, fault.New(fault.Conflict, "generation %d of placement %s was issued to another key", number, id).WithRemedy("take the next generation")
			}
			o.known = same.Chain
			return nil, nil
		}
		newest = max(newest, before.newest)
	}
	if err := c.mayRenew(caller, o.request, stood.Newest, newest, more); err != nil {
		return nil, err
	}
	if o.grant, err = c.grantCutOff(id, stood); err != nil {
		return nil, err
	}
	switch tried, ok := s.trying[tryOf(o.request)]; {
	case ok && tried.SPKI == spki && isNamedAs(tried, o.grant):
		o.issued = tried // it may have its record already, and must not get two
	case ok:
		return nil, s.cant("generation %d of placement %s may have another certificate", number, id)
	default:
		if c.signOrder(o); o.err != nil {
			return nil, o.err
		}
	}
	return &spooled{
		Record: o.record(c.now()), Basis: o.grant.basis, Newest: stood.Newest, Seen: s.snapshot.at, Shown: caller.Serial, From: caller.Address,
		Away: o.grant.away, Epoch: s.snapshot.epoch, Chain: o.issued.Chain,
	}, nil
}

// isNamedAs says whether a certificate is what is granted.
func isNamedAs(issued ca.Issued, g *grant) bool {
	cert, err := x509.ParseCertificate(issued.DER)
	return err == nil && issued.Authority == g.issuer.ID && slices.Equal(pki.NamesOf(cert).Strings(), g.expanded.Names.Strings())
}

// mayRenew holds a renewal to the limits, and to what the snapshot knows: the store
// had known, and the newest is of those that were spooled since.
func (c *Control) mayRenew(caller Caller, r *api.PlacementRequest, known, newest uint64, more int) error {
	s, id, number := &c.cutOff, r.PlacementId, r.Generation
	last := s.snapshot.newest[id]
	shown := caller.shown()
	switch {
	case time.Since(s.contact) > s.For:
		return s.cant("its last contact is %s ago, and it may go on for %s (spool.for)", time.Since(s.contact).Round(time.Second), s.For)
	case s.spool.Len()+more >= s.Most:
		return s.cant("%d certificates are spooled, and no more may be (spool.most)", s.spool.Len()+more)
	case c.now().Before(s.snapshot.seq.Add(-clockSlack)):
		return clockBehind(s.snapshot.seq.Sub(c.now()))
	case shown == nil || s.snapshot.callers[*shown].id != caller.ID:
		return s.cant("the agent's certificate is not known")
	case number <= known:
		return s.cant("generation %d of placement %s is over", number, id)
	case number > newest+mostSkipped:
		return fault.New(fault.Conflict, "generation %d of placement %s is too far ahead: the newest is %d", number, id, newest)
	case last.revoked:
		return s.cant("the newest certificate of placement %s was revoked", id)
	}
	return nil
}

// grantCutOff decides as ever, on the snapshot; and what it grants must be what the
// newest certificate was granted.
func (c *Control) grantCutOff(id string, stood store.Stood) (*grant, error) {
	snap := c.cutOff.snapshot
	g, err := c.decideGrant(snap.world, snap.agents[stood.AgentID], stood.Standing)
	if err != nil {
		return nil, err
	}
	last := snap.newest[id]
	if last.input != sha256.Sum256(g.input) || last.names != strings.Join(g.expanded.Names.Strings(), " ") {
		return nil, c.cutOff.cant("the names, the profile or the agent's labels of placement %s are others than when its newest certificate was issued", id)
	}
	by := snap.signers[stood.Issuer]
	if by == nil {
		return nil, c.cutOff.cant("nobody who signs for region %q is known", stood.Region)
	}
	g.issuer, g.away = by.Authority, snap.homes[stood.Region]
	return g, nil
}
