package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// EndCredential revokes a certificate of the calling operator's own that
// another has taken the place of. The one that he calls with stays: so whoever
// ends the old one has shown that the new one works.
func (c *Control) EndCredential(ctx context.Context, caller Caller, req *api.EndCredentialRequest) (*api.EndCredentialResponse, error) {
	if err := authorize(caller, "credential.end"); err != nil {
		return nil, err
	}
	serial, err := pki.ParseSerial(req.Serial)
	if err != nil {
		return nil, err
	}
	if serial.String() == caller.Serial {
		return nil, fault.New(fault.Conflict, "certificate %s is the one that this call was made with", serial).
			WithRemedy("call with the certificate that takes its place: rotunda operator renew does")
	}
	response := &api.EndCredentialResponse{}
	err = c.change(ctx, func(tx *store.Tx) error {
		record, err := tx.Certificate(ctx, serial)
		if err != nil {
			return err
		}
		if record.Kind != store.KindOperator || record.Operator != caller.ID {
			return fault.New(fault.Forbidden, "certificate %s is not one of operator %s", serial, caller.ID)
		}
		if !record.RevokedAt.IsZero() {
			return nil // a repeated call
		}
		if err := tx.RevokeCertificate(ctx, serial, superseded); err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "credential.end", "Operator/"+caller.ID, map[string]any{"serial": serial.String()})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.identities.forget()
	c.watchers.wakeAgents()
	return response, nil
}
