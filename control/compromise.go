package control

import (
	"context"
	"encoding/json"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// A compromise is one answer made of the others: a revocation, a rollout that has
// new keys made, orders to close sessions, a change of trust. They are begun in one
// transaction and go on as they do by themselves; what is kept beside them is what
// fell, and when it was first seen to be contained and recovered from.

// Compromise begins the answer to something in wrong hands. Of a subject whose
// answer has begun it shows that one.
func (c *Control) Compromise(ctx context.Context, caller Caller, req *api.CompromiseRequest) (*api.CompromiseResponse, error) {
	if err := authorize(caller, "compromise"); err != nil {
		return nil, err
	}
	if err := checkCompromise(req); err != nil {
		return nil, err
	}
	response := &api.CompromiseResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		return c.compromise(ctx, tx, caller, req, response)
	}
	if req.DryRun {
		err := c.dryRun(ctx, body)
		response.AuditId = ""
		return response, err
	}
	if err := c.change(ctx, body); err != nil {
		return nil, err
	}
	c.revoked()
	return response, nil
}

func checkCompromise(req *api.CompromiseRequest) error {
	within := req.Within.AsDuration()
	switch {
	case count(req.Agent != "", req.Service != "", req.Authority != "", req.Key != "") != 1:
		return fault.New(fault.Invalid, "a compromise is of an agent, a service, an authority or a key, and of exactly one of them")
	case req.Agent != "" && len(req.Labels) > 0:
		return fault.New(fault.Invalid, "labels narrow a service, a key or the rehearsal of an authority, and no agent: it is one host")
	case req.Rehearsal && req.Agent == "" && len(req.Labels) == 0:
		return fault.New(fault.Invalid, "a rehearsal is of a slice").WithRemedy("say on which agents: --label rack=7")
	case req.Authority != "" && !req.Rehearsal && len(req.Labels) > 0:
		return fault.New(fault.Invalid, "an authority's key is lost for all that trust it: there is no slice of that").WithRemedy("leave out the labels, or rehearse it: --rehearse")
	case req.Authority != "" && !req.Rehearsal && (req.ContainFirst || req.Within != nil):
		return fault.New(fault.Invalid, "what an authority signed is replaced before it is distrusted: to do that first would stop the fleet").
			WithRemedy("to set a law aside at one phase: rotunda trust advance --force")
	case req.Within != nil && (within <= 0 || within > longestWithin):
		return fault.New(fault.Invalid, "within %s: a revocation is forced after more than nothing and at most %s", within, fleet.Duration(longestWithin))
	case req.Within != nil && req.ContainFirst:
		return fault.New(fault.Invalid, "what is revoked first has no time within which it is").WithRemedy("say --contain-first or --within")
	}
	return nil
}

func (c *Control) compromise(ctx context.Context, tx *store.Tx, caller Caller, req *api.CompromiseRequest, response *api.CompromiseResponse) error {
	record, err := compromiseRecord(req)
	if err != nil {
		return err
	}
	record.BegunBy, record.BegunAt = caller.String(), tx.Now
	open, err := tx.OpenCompromises(ctx)
	if err != nil {
		return err
	}
	same := func(one store.Compromise) bool {
		return one.Kind == record.Kind && one.Name == record.Name && one.Labels == record.Labels
	}
	if i := slices.IndexFunc(open, same); i >= 0 {
		response.Already = true
		response.Compromise, err = c.wireCompromise(ctx, tx, open[i])
		return err
	}
	answering := &answering{Control: c, tx: tx, caller: caller, req: req, record: record}
	if req.Authority != "" && !req.Rehearsal {
		err = answering.authority(ctx)
	} else {
		err = answering.holders(ctx)
	}
	if err != nil {
		return err
	}
	if err := tx.InsertCompromise(ctx, answering.record); err != nil {
		return err
	}
	response.Warnings = answering.warnings
	response.AuditId, err = done(ctx, tx, caller, "compromise.begin", compromiseObject(record), map[string]any{
		"compromise": record.ID, "labels": req.Labels, "rehearsal": req.Rehearsal, "containFirst": req.ContainFirst, "note": req.Note,
		"revocation": answering.record.RevocationID, "rollout": answering.record.RolloutID, "trustChange": answering.trustChange, "certificates": answering.certificates,
	})
	if err != nil {
		return err
	}
	response.Compromise, err = c.wireCompromise(ctx, tx, answering.record)
	return err
}

// compromiseRecord is what was asked, as it is kept.
func compromiseRecord(req *api.CompromiseRequest) (store.Compromise, error) {
	record := store.Compromise{ID: newID(), Note: req.Note, ContainFirst: req.ContainFirst, Rehearsal: req.Rehearsal}
	labels := req.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	text, err := json.Marshal(labels)
	record.Labels = string(text)
	switch {
	case req.Agent != "":
		record.Kind, record.Name = store.CompromisedAgent, req.Agent
	case req.Service != "":
		record.Kind, record.Name = store.CompromisedService, req.Service
	case req.Authority != "":
		record.Kind, record.Name = store.CompromisedAuthority, req.Authority
	default:
		record.Kind, record.Name = store.CompromisedKey, req.Key
	}
	return record, err
}

// compromiseObject names the subject as audit entries do.
func compromiseObject(record store.Compromise) string {
	kinds := map[store.CompromiseKind]string{
		store.CompromisedAgent: "Agent/", store.CompromisedService: "Service/", store.CompromisedAuthority: "Authority/", store.CompromisedKey: "Key/",
	}
	return kinds[record.Kind] + record.Name
}

// answering is one compromise while its answer is begun.
type answering struct {
	*Control
	tx     *store.Tx
	caller Caller
	req    *api.CompromiseRequest
	record store.Compromise

	certificates int
	trustChange  string
	warnings     []string
}

// holders revokes what holders of certificates have, and has new keys made.
func (a *answering) holders(ctx context.Context) error {
	chosen, err := a.choose(ctx)
	if err != nil {
		return err
	}
	a.certificates = len(chosen.records)
	agent := a.record.Kind == store.CompromisedAgent
	r := revoking{
		Control: a.Control, tx: a.tx, caller: a.caller, reason: a.reason(),
		req: &api.RevokeRequest{Now: a.req.ContainFirst, Key: a.req.Key}, inWaves: !agent, cutOff: agent,
	}
	for _, record := range chosen.records {
		if err := r.look(ctx, record); err != nil {
			return err
		}
	}
	a.warnings = append(a.warnings, r.warnings...)
	revocation := store.Revocation{
		ID: newID(), Object: chosen.object, Reason: r.reason, Note: a.req.Note, By: a.caller.String(), BegunAt: a.tx.Now,
	}
	if a.req.Within != nil {
		revocation.ForceAt = a.tx.Now.Add(a.req.Within.AsDuration())
	}
	if !r.waits {
		revocation.EndedAt = a.tx.Now
	}
	if err := r.carryOut(ctx, revocation, chosen.records); err != nil {
		return err
	}
	a.record.RevocationID = revocation.ID
	if agent {
		return nil // its host has to come back before anything rotates there
	}
	return a.rotateInWaves(ctx, r.rotate)
}

// reason is the one that stands in the lists. A rehearsal says nothing of keys
// that are in wrong hands: who reads lists would believe it.
func (a *answering) reason() string {
	if a.req.Rehearsal {
		return "unspecified"
	}
	return "keyCompromise"
}

// choose finds the certificates that are in wrong hands.
func (a *answering) choose(ctx context.Context) (chosenCertificates, error) {
	live := store.CertificateQuery{ValidAfter: a.tx.Now}
	switch a.record.Kind {
	case store.CompromisedAgent:
		chosen, err := a.chooseRevoked(ctx, a.tx, &api.RevokeRequest{Agent: a.req.Agent})
		if err != nil {
			return chosen, err
		}
		live.Kind, live.AgentID = store.KindCanary, a.req.Agent
		canaries, err := a.tx.Certificates(ctx, live)
		chosen.records = append(chosen.records, canaries...)
		return chosen, err
	case store.CompromisedService:
		return a.chooseRevoked(ctx, a.tx, &api.RevokeRequest{Service: a.req.Service, Labels: a.req.Labels})
	case store.CompromisedKey:
		if err := a.noAuthoritysKey(ctx); err != nil {
			return chosenCertificates{}, err
		}
		chosen, err := a.chooseRevoked(ctx, a.tx, &api.RevokeRequest{Key: a.req.Key})
		if err != nil {
			return chosen, err
		}
		return a.narrowed(ctx, chosen)
	}
	authority, err := a.tx.AuthorityByName(ctx, a.req.Authority)
	if err != nil {
		return chosenCertificates{}, err
	}
	live.Kind, live.AuthorityID = store.KindLeaf, authority.ID
	chosen, err := chooseQuery(ctx, a.tx, "Authority/"+authority.Name, live)
	if err != nil {
		return chosen, err
	}
	return a.narrowed(ctx, chosen)
}

// narrowed keeps the certificates of agents with the labels.
func (a *answering) narrowed(ctx context.Context, chosen chosenCertificates) (chosenCertificates, error) {
	if len(a.req.Labels) == 0 {
		return chosen, nil
	}
	var kept []store.Certificate
	for _, record := range chosen.records {
		if record.AgentID == "" {
			continue
		}
		agent, err := a.tx.Agent(ctx, record.AgentID)
		if err != nil {
			return chosen, err
		}
		if inSlice(a.req.Labels, agent) {
			kept = append(kept, record)
		}
	}
	if chosen.records = kept; len(kept) == 0 {
		return chosen, fault.New(fault.NotFound, "%s has no live certificate on an agent with these labels", chosen.object).
			WithRemedy("see which there are: rotunda get agents")
	}
	return chosen, nil
}

// noAuthoritysKey refuses the key of an authority: what it signed in wrong hands
// is on no record.
func (a *answering) noAuthoritysKey(ctx context.Context) error {
	digest, err := parseDigest("key", a.req.Key)
	if err != nil {
		return err
	}
	all, err := a.tx.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, authority := range all {
		record, err := authorityRecord(authority)
		if err != nil {
			return err
		}
		if [32]byte(record.SPKI) == digest {
			return fault.New(fault.Conflict, "the key is that of authority %s: what it signs in wrong hands is on no record, so it takes another answer", authority.Name).
				WithRemedy("rotunda compromise authority %s", authority.Name)
		}
	}
	return nil
}

// rotateInWaves begins the rollout that has new keys made, at a pace that ends
// within minutes.
func (a *answering) rotateInWaves(ctx context.Context, placements []store.Placement) error {
	var seats []rollout.Seat
	well, seen := 0, map[string]bool{}
	for _, placement := range placements {
		if seen[placement.ID] {
			continue
		}
		seen[placement.ID] = true
		agent, err := a.tx.Agent(ctx, placement.AgentID)
		if err != nil {
			return err
		}
		seat, isWell, err := seatOf(ctx, a.tx, placement, agent)
		if err != nil {
			return err
		}
		if isWell {
			well++
		}
		seats = append(seats, seat)
	}
	if len(seats) == 0 {
		return nil
	}
	spec := rollout.Spec{
		Name: "compromise-" + a.record.ID[len(a.record.ID)-12:], NewKey: true, Urgent: true,
		Steps: rollout.DefaultSteps, PerMinute: max(rollout.DefaultPerMinute, len(seats)/10),
	}
	if a.req.ContainFirst {
		spec.Steps, spec.PerMinute = []rollout.Step{{Percent: 100}}, max(rollout.DefaultPerMinute, len(seats))
	}
	selection, err := json.Marshal(compromiseObject(a.record) + ", compromised")
	if err != nil {
		return err
	}
	begin := beginning{name: spec.Name, selection: selection, spec: spec, reason: a.req.Note, well: well}
	if begin.waves, begin.parts, err = rollout.Plan(spec, seats); err != nil {
		return err
	}
	info, _, err := a.beginRollout(ctx, a.tx, a.caller, begin)
	a.record.RolloutID = info.GetId()
	return err
}
