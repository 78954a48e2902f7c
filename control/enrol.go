package control

import (
	"context"
	"crypto/x509"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// identityLife is how long an agent's own certificate lives. The agent renews
// it after two thirds, so it rides out an outage of eight hours.
const identityLife = 24 * time.Hour

var identityTerms = ca.Terms{
	Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
}

// Enrol exchanges a token for an agent's identity. Asked again with the same
// token and the same key it gives the same certificate again.
func (c *Control) Enrol(ctx context.Context, caller Caller, req *api.EnrolRequest) (*api.EnrolResponse, error) {
	if err := authorize(caller, "agent.enrol"); err != nil {
		return nil, err
	}
	response, err := c.enrol(ctx, caller, req)
	if code := fault.CodeOf(err); err != nil && (code == fault.Forbidden || code == fault.Conflict) {
		return nil, c.refused(ctx, caller, "agent.enrol", "Token/"+printable(req.TokenId), err)
	}
	return response, err
}

func (c *Control) enrol(ctx context.Context, caller Caller, req *api.EnrolRequest) (*api.EnrolResponse, error) {
	if req.TrustDomain != c.domain.Name() {
		return nil, fault.New(fault.Forbidden, "this server is of trust domain %s, the token of %s", c.domain.Name(), printable(req.TrustDomain)).
			WithRemedy("give the agent a server of its own trust domain")
	}
	csr, err := pki.ParseCSR(req.Csr)
	if err != nil {
		return nil, err
	}
	spki, err := pki.SPKIHashOf(csr.PublicKey)
	if err != nil {
		return nil, err
	}
	response := &api.EnrolResponse{LogKey: c.logKey}
	err = c.change(ctx, func(tx *store.Tx) error {
		token, err := openToken(ctx, tx, req.TokenId, req.TokenSecret, spki)
		if err != nil {
			return err
		}
		if token.State == fleet.TokenUsed {
			return c.repeatEnrolment(ctx, tx, token, response)
		}
		return c.firstEnrolment(ctx, tx, caller, token, csr, facts(req.Facts), response)
	})
	if err != nil {
		return nil, err
	}
	c.identities.forget() // a rejoin revokes
	c.clones.Delete(response.AgentId)
	c.watchers.wakeAgents(response.AgentId) // what it changes for others, such as a cluster's windows, can wait for their next look
	return response, nil
}

func (c *Control) firstEnrolment(ctx context.Context, tx *store.Tx, caller Caller, token store.Token, csr *x509.CertificateRequest, facts map[string]string, response *api.EnrolResponse) error {
	spki, err := pki.SPKIHashOf(csr.PublicKey)
	if err != nil {
		return err
	}
	agent := store.Agent{
		ID: newID(), State: fleet.AgentActive, Labels: token.Labels, Facts: facts,
		Region: token.Region, Zone: token.Zone, TokenID: token.ID, EnrolledAt: tx.Now,
	}
	verb := "agent.enrol"
	if token.RejoinAgent != "" {
		verb, agent.ID = "agent.rejoin", token.RejoinAgent
		if err := c.rejoin(ctx, tx, agent.ID); err != nil {
			return err
		}
	} else if err := tx.InsertAgent(ctx, agent); err != nil {
		return err
	}
	if err := tx.UseToken(ctx, token.ID, agent.ID, spki); err != nil {
		return err
	}
	issued, err := c.signIdentity(ctx, tx, agent.ID, csr)
	if err != nil {
		return err
	}
	if err := c.placeAgent(ctx, tx, agent.ID); err != nil {
		return err
	}
	spender := Caller{Kind: Token, ID: token.ID, Address: caller.Address}
	_, err = done(ctx, tx, spender, verb, "Agent/"+agent.ID, map[string]any{
		"labels": agent.Labels, "serial": issued.Serial.String(),
	})
	if err != nil {
		return err
	}
	return c.fillEnrolment(ctx, tx, agent.ID, issued, response)
}

// rejoin gives an agent its identity back: what it held before is revoked,
// so that whoever has the old key has nothing.
func (c *Control) rejoin(ctx context.Context, tx *store.Tx, id string) error {
	agent, err := tx.Agent(ctx, id)
	if err != nil {
		return err
	}
	if agent.State != fleet.AgentActive {
		if err := agent.State.To(fleet.AgentActive); err != nil {
			return fault.Wrap(fault.Conflict, err, "agent %s", id)
		}
		if err := tx.SetAgentState(ctx, id, agent.State, fleet.AgentActive); err != nil {
			return err
		}
	}
	return revokeIdentities(ctx, tx, id, superseded)
}

// repeatEnrolment answers an enrolment whose first answer was lost.
func (c *Control) repeatEnrolment(ctx context.Context, tx *store.Tx, token store.Token, response *api.EnrolResponse) error {
	certificates, err := tx.AgentIdentities(ctx, token.AgentID)
	if err != nil {
		return err
	}
	for _, certificate := range certificates {
		if certificate.SPKI == token.SPKI && certificate.RevokedAt.IsZero() && tx.Now.Before(certificate.NotAfter) {
			return c.fillEnrolment(ctx, tx, token.AgentID, certificate, response)
		}
	}
	return fault.New(fault.Forbidden, "token %s was used by agent %s, whose first certificate is no longer valid", token.ID, token.AgentID).
		WithRemedy("give it its identity back with: rotunda agent rejoin %s", token.AgentID)
}

func (c *Control) fillEnrolment(ctx context.Context, tx *store.Tx, agentID string, leaf store.Certificate, response *api.EnrolResponse) error {
	bundle, err := c.currentBundle(ctx, tx, fleet.DefaultBundle)
	if err != nil {
		return err
	}
	checkpoint, err := tx.NewestCheckpoint(ctx)
	if err != nil {
		return err
	}
	epoch, err := tx.Epoch(ctx)
	if err != nil {
		return err
	}
	proto.Reset(response)
	response.AgentId, response.Epoch, response.LogKey = agentID, epoch, c.logKey
	if response.Chain, err = c.chainOf(ctx, tx, leaf); err != nil {
		return err
	}
	response.Anchors, response.Checkpoint = bundle.DER(), checkpoint
	return nil
}

// signIdentity issues an agent's own certificate and records it in tx.
func (c *Control) signIdentity(ctx context.Context, tx *store.Tx, agentID string, csr *x509.CertificateRequest) (store.Certificate, error) {
	names, err := c.roleNames(pki.RoleAgent, agentID, nil, nil)
	if err != nil {
		return store.Certificate{}, err
	}
	terms := identityTerms
	terms.Lifetime, terms.Backdate = c.identityLife, min(time.Minute, c.identityLife/10)
	issued, err := c.sign(ctx, tx, ca.Request{PublicKey: csr.PublicKey, Names: names, Terms: terms})
	if err != nil {
		return store.Certificate{}, err
	}
	record := certificateRecord(store.KindAgent, issued, names, tx.Now)
	record.AgentID = agentID
	return record, tx.InsertCertificates(ctx, record)
}

// RenewIdentity replaces an agent's own certificate. The same key gets the
// same certificate back while that is young.
func (c *Control) RenewIdentity(ctx context.Context, caller Caller, req *api.RenewIdentityRequest) (*api.RenewIdentityResponse, error) {
	if caller.Kind == Anonymous && len(req.Expired) > 0 {
		var err error
		if caller, err = c.expiredAgent(ctx, caller, req); err != nil {
			return nil, c.refused(ctx, caller, "agent.renew", "", err)
		}
	}
	if err := authorize(caller, "agent.renew"); err != nil {
		return nil, err
	}
	csr, err := pki.ParseCSR(req.Csr)
	if err != nil {
		return nil, err
	}
	spki, err := pki.SPKIHashOf(csr.PublicKey)
	if err != nil {
		return nil, err
	}
	response := &api.RenewIdentityResponse{}
	err = c.change(ctx, func(tx *store.Tx) error {
		if _, err := activeAgent(ctx, tx, caller); err != nil {
			return err
		}
		if err := useWindow(ctx, tx, caller); err != nil {
			return err
		}
		leaf, err := c.renewedIdentity(ctx, tx, caller, csr, spki)
		if err != nil {
			return err
		}
		bundle, err := c.currentBundle(ctx, tx, fleet.DefaultBundle)
		if err != nil {
			return err
		}
		if response.Chain, err = c.chainOf(ctx, tx, leaf); err != nil {
			return err
		}
		response.Anchors = bundle.DER()
		return nil
	})
	return response, err
}

func (c *Control) renewedIdentity(ctx context.Context, tx *store.Tx, caller Caller, csr *x509.CertificateRequest, spki pki.SPKIHash) (store.Certificate, error) {
	held, err := tx.AgentIdentities(ctx, caller.ID)
	if err != nil {
		return store.Certificate{}, err
	}
	for _, certificate := range held {
		young := tx.Now.Sub(certificate.IssuedAt) < c.identityLife/3
		if certificate.SPKI == spki && certificate.RevokedAt.IsZero() && young {
			return certificate, nil
		}
	}
	issued, err := c.signIdentity(ctx, tx, caller.ID, csr)
	if err != nil {
		return issued, err
	}
	_, err = done(ctx, tx, caller, "agent.renew", "Agent/"+caller.ID, map[string]any{"serial": issued.Serial.String()})
	return issued, err
}

// facts keeps what an agent says of itself small. targets is the list of the
// control paths that its agent.yaml names, by which a plan tells which are
// missing.
func facts(said map[string]string) map[string]string {
	kept := map[string]string{}
	for key, most := range map[string]int{"hostname": 256, "os": 256, "arch": 256, "version": 256, "targets": 16 << 10} {
		if value, ok := said[key]; ok && len(value) <= most {
			kept[key] = value
		}
	}
	return kept
}
