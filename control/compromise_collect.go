package control

import (
	"context"
	"slices"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/store"
)

// mostCollected bounds the certificates of an authority that are collected: the
// log names all of them.
const mostCollected = 10_000

// CollectCompromise hands what the store knows of a compromise to send, piece by
// piece: the store is not held while it sends. What it says is as of then; what
// led to it is in the audit log, in the entries that mention one of the terms.
func (c *Control) CollectCompromise(ctx context.Context, caller Caller, req *api.CollectCompromiseRequest, send func(*api.CollectCompromiseResponse) error) error {
	if err := authorize(caller, "list"); err != nil {
		return err
	}
	g := &collecting{Control: c}
	if err := c.db.Read(ctx, func(tx *store.Tx) error {
		*g = collecting{Control: c}
		return g.collect(ctx, tx, req.Id)
	}); err != nil {
		return err
	}
	for _, piece := range g.pieces {
		if err := send(piece); err != nil {
			return err
		}
	}
	for _, term := range g.terms {
		if err := send(&api.CollectCompromiseResponse{Piece: &api.CollectCompromiseResponse_Term{Term: term}}); err != nil {
			return err
		}
	}
	for _, placement := range g.placements {
		var evidence []store.Evidence
		err := c.db.Read(ctx, func(tx *store.Tx) (err error) {
			evidence, err = tx.EvidenceOf(ctx, placement)
			return err
		})
		if err != nil {
			return err
		}
		for _, one := range evidence {
			if err := send(&api.CollectCompromiseResponse{Piece: &api.CollectCompromiseResponse_Evidence{Evidence: collectedEvidence(one)}}); err != nil {
				return err
			}
		}
	}
	return nil
}

func collectedEvidence(one store.Evidence) *api.CollectedEvidence {
	return &api.CollectedEvidence{
		Placement: one.PlacementID, Observer: one.Observer, Digest: one.Digest, Verdict: one.Verdict,
		Statement: one.Statement, Signature: one.Signature, At: stamp(one.At),
	}
}

// collecting is what was found of one compromise.
type collecting struct {
	*Control
	pieces     []*api.CollectCompromiseResponse
	terms      []string
	placements []string
	agents     []string
	observers  []string
}

// once adds to a list what it has not.
func once(list *[]string, items ...string) {
	for _, item := range items {
		if item != "" && !slices.Contains(*list, item) {
			*list = append(*list, item)
		}
	}
}

func (g *collecting) collect(ctx context.Context, tx *store.Tx, id string) error {
	record, err := tx.Compromise(ctx, id)
	if err != nil {
		return err
	}
	shown, err := g.wireCompromise(ctx, tx, record)
	if err != nil {
		return err
	}
	g.pieces = append(g.pieces, &api.CollectCompromiseResponse{Piece: &api.CollectCompromiseResponse_Compromise{Compromise: shown}})
	g.terms = []string{record.ID, compromiseObject(record)}
	once(&g.terms, shown.Revocation, shown.Rollout, shown.TrustChange)
	affected, err := g.affected(ctx, tx, record)
	if err != nil {
		return err
	}
	for _, one := range affected {
		g.certificate("affected", one)
		g.terms = append(g.terms, one.Serial.String())
		once(&g.placements, one.PlacementID)
		once(&g.agents, one.AgentID)
	}
	once(&g.terms, g.placements...)
	if record.Kind == store.CompromisedAgent {
		once(&g.terms, record.Name)
	}
	for _, step := range []func(context.Context, *store.Tx) error{g.authorities, g.hosts, g.operators} {
		if err := step(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// affected are the certificates that are in wrong hands; of an authority those
// that it signed for us and that are live, so that others can be told from them.
func (g *collecting) affected(ctx context.Context, tx *store.Tx, record store.Compromise) ([]store.Certificate, error) {
	if record.RevocationID != "" {
		revocation, err := tx.Revocation(ctx, record.RevocationID)
		if err != nil {
			return nil, err
		}
		parts, err := tx.RevocationParts(ctx, record.RevocationID)
		if err != nil {
			return nil, err
		}
		wire, err := g.wireRevocation(ctx, tx, revocation, parts)
		if err == nil {
			wire.Sessions, err = g.closedSessions(ctx, tx, revocation.ID)
		}
		g.pieces = append(g.pieces, &api.CollectCompromiseResponse{Piece: &api.CollectCompromiseResponse_Revocation{Revocation: wire}})
		return parts, err
	}
	fallen, err := tx.AuthorityByName(ctx, record.Name)
	if err != nil {
		return nil, err
	}
	once(&g.terms, fallen.ID)
	return tx.Certificates(ctx, store.CertificateQuery{AuthorityID: fallen.ID, ValidAfter: record.BegunAt, Limit: mostCollected})
}

func (g *collecting) certificate(role string, one store.Certificate) {
	g.pieces = append(g.pieces, &api.CollectCompromiseResponse{Piece: &api.CollectCompromiseResponse_Certificate{Certificate: &api.CollectedCertificate{
		Role: role, Serial: one.Serial.String(), Kind: string(one.Kind), Subject: one.Names, Intent: one.Intent, Agent: one.AgentID,
		Placement: one.PlacementID, Generation: one.Generation, IssuedAt: stamp(one.IssuedAt), NotAfter: stamp(one.NotAfter),
		RevokedAt: stamp(one.RevokedAt), Reason: one.Reason, Der: one.DER,
	}}})
}

// authorities are all, withdrawn ones too: whoever looks at certificates and
// evidence later needs those of then.
func (g *collecting) authorities(ctx context.Context, tx *store.Tx) error {
	all, err := tx.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, authority := range all {
		record, err := authorityRecord(authority)
		if err != nil {
			return err
		}
		record.Names = authority.Name
		g.certificate("authority", record)
	}
	return nil
}

// hosts are where affected keys were, with the identities by which their agents
// sign evidence, and those of others that observed the placements.
func (g *collecting) hosts(ctx context.Context, tx *store.Tx) error {
	for _, id := range g.agents {
		agent, err := tx.Agent(ctx, id)
		if err != nil {
			return err
		}
		g.pieces = append(g.pieces, &api.CollectCompromiseResponse{Piece: &api.CollectCompromiseResponse_Agent{Agent: &api.CollectedAgent{
			Id: agent.ID, Labels: agent.Labels, Facts: agent.Facts, State: string(agent.State), EnrolledAt: stamp(agent.EnrolledAt), SeenAt: stamp(agent.SeenAt),
		}}})
	}
	g.observers = slices.Clone(g.agents)
	for _, placement := range g.placements {
		evidence, err := tx.EvidenceOf(ctx, placement)
		if err != nil {
			return err
		}
		for _, one := range evidence {
			once(&g.observers, one.Observer)
		}
	}
	for _, id := range g.observers {
		identities, err := tx.Certificates(ctx, store.CertificateQuery{Kind: store.KindAgent, AgentID: id})
		if err != nil {
			return err
		}
		for _, one := range identities {
			g.certificate("observer", one)
		}
	}
	return nil
}

// operators could call when it was collected; who did is in the log.
func (g *collecting) operators(ctx context.Context, tx *store.Tx) error {
	live, err := tx.Certificates(ctx, store.CertificateQuery{Kind: store.KindOperator, ValidAfter: tx.Now})
	for _, one := range live {
		one.Names = one.Operator
		g.certificate("operator", one)
	}
	return err
}
