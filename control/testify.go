package control

import (
	"cmp"
	"context"
	"crypto/x509"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// IdentifyWitness says who holds the certificate, as Identify does; but where it
// has no record and an authority of this store signed it as an agent's, its
// holder is that agent as a witness, who may testify and nothing else. The
// caller must have verified the chain and the possession of the key.
func (c *Control) IdentifyWitness(ctx context.Context, cert *x509.Certificate, address string) (Caller, error) {
	caller, refusal := c.Identify(ctx, cert, address)
	if fault.CodeOf(refusal) != fault.Forbidden {
		return caller, refusal
	}
	serial, err := pki.SerialOf(cert)
	if err != nil {
		return caller, refusal
	}
	id, err := c.agentIn(cert)
	if err != nil {
		return caller, refusal
	}
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		if _, err := tx.Certificate(ctx, serial); fault.CodeOf(err) != fault.NotFound {
			return refusal // it has a record, so that is what counts
		}
		if archived, err := tx.IsArchived(ctx, serial); err != nil || archived {
			return cmp.Or(err, refusal)
		}
		signers, err := ownSigners(ctx, tx)
		if err != nil {
			return err
		}
		if signers.of(cert) == nil {
			return refusal
		}
		return nil
	})
	if err != nil {
		return caller, err
	}
	return Caller{Kind: Witness, ID: id, Serial: serial.String(), Address: address}, nil
}

// agentIn is the id of the agent whose identity a certificate is.
func (c *Control) agentIn(cert *x509.Certificate) (string, error) {
	spiffe, err := spiffeid.FromString(pki.NamesOf(cert).URI)
	if err != nil {
		return "", err
	}
	role, id, err := pki.ParseRoleID(spiffe)
	if err == nil && (spiffe.TrustDomain() != c.domain || role != pki.RoleAgent) {
		err = fault.New(fault.Forbidden, "%s is no agent of %s", spiffe, c.domain)
	}
	return id, err
}

// Testify takes what an agent holds, for a restore; after one, from agents that
// were away then, it takes it at once.
func (c *Control) Testify(ctx context.Context, caller Caller, req *api.TestifyRequest) (*api.TestifyResponse, error) {
	if err := authorize(caller, "agent.testify"); err != nil {
		return nil, err
	}
	if err := c.heed(ctx, caller, req.Checkpoint, req.Epoch); err != nil {
		return nil, err
	}
	content, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	response, late := &api.TestifyResponse{}, 0
	err = c.db.Write(ctx, func(tx *store.Tx) error {
		response.Taken, late = false, 0
		open, err := tx.RolledBack(ctx)
		if err != nil {
			return err
		}
		last, err := tx.LastRestore(ctx)
		if err != nil {
			return err
		}
		switch {
		case open != nil:
			response.Taken = true
			return tx.PutTestimony(ctx, caller.ID, content)
		case caller.Kind == Witness && (last == nil || !issuedBefore(caller, last)):
			return fault.New(fault.Forbidden, "client certificate %s has no record", caller.Serial)
		case last == nil:
			return nil
		}
		response.Taken = true
		late, err = c.takeLate(ctx, tx, caller, req)
		return err
	})
	if fault.CodeOf(err) == fault.Forbidden {
		return nil, c.refused(ctx, caller, "agent.testify", "Agent/"+caller.ID, err)
	}
	if err != nil {
		return nil, err
	}
	if late > 0 {
		c.identities.forget()
		c.watchers.wakeEverybody()
	}
	return response, nil
}

// issuedBefore says whether the certificate shown is from before a restore:
// only those can have lost their record by what it set right.
func issuedBefore(caller Caller, restored *store.RolledBack) bool {
	serial := caller.shown()
	return serial != nil && serial.Time().Before(restored.EndedAt)
}

// takeLate is a restore for one agent.
func (c *Control) takeLate(ctx context.Context, tx *store.Tx, caller Caller, req *api.TestifyRequest) (int, error) {
	r, err := c.newRecovery(ctx, tx)
	if err != nil {
		return 0, err
	}
	r.hear(caller.ID, req)
	if err := r.weigh(); err != nil {
		return 0, err
	}
	return r.apply(caller)
}
