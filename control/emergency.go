package control

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// longestWindow bounds how long expired identities may be renewed at one word.
const longestWindow = 24 * time.Hour

// OpenEmergency lets agents whose identities have expired renew them, and
// nothing else, for a while.
func (c *Control) OpenEmergency(ctx context.Context, caller Caller, req *api.OpenEmergencyRequest) (*api.OpenEmergencyResponse, error) {
	if err := authorize(caller, "emergency.open"); err != nil {
		return nil, err
	}
	lasts := req.Lasts.AsDuration()
	switch {
	case lasts < time.Minute || lasts > longestWindow:
		return nil, fault.New(fault.Invalid, "an emergency window of %s: it lasts 1m to %s", fleet.Duration(lasts), fleet.Duration(longestWindow))
	case req.Reason == "":
		return nil, fault.New(fault.Invalid, "an emergency window needs a reason, for the record").WithRemedy("say --reason")
	case req.All == (len(req.Agents) > 0):
		return nil, fault.New(fault.Invalid, "an emergency window is for agents by their ids, or for all").WithRemedy("say --agents ID,… or --agents all")
	}
	response := &api.OpenEmergencyResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		for _, id := range req.Agents {
			if _, err := tx.Agent(ctx, id); err != nil {
				return err
			}
		}
		window := store.EmergencyWindow{
			ID: newID(), Agents: req.Agents, Reason: short(req.Reason), OpenedBy: caller.String(), OpenedAt: tx.Now, EndsAt: tx.Now.Add(lasts),
		}
		if err := tx.InsertEmergencyWindow(ctx, window); err != nil {
			return err
		}
		response.Window = windowWire(window)
		var err error
		response.AuditId, err = done(ctx, tx, caller, "emergency.open", "EmergencyWindow/"+window.ID, map[string]any{
			"agents": req.Agents, "all": req.All, "reason": window.Reason, "endsAt": window.EndsAt.Format(time.RFC3339),
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.log.Warn("EMERGENCY WINDOW OPEN: expired identities may be renewed", "window", response.Window.Id, "by", caller.String(), "until", response.Window.EndsAt.AsTime())
	c.watchers.wakeAgents()
	return response, nil
}

// CloseEmergency ends windows before their time.
func (c *Control) CloseEmergency(ctx context.Context, caller Caller, req *api.CloseEmergencyRequest) (*api.CloseEmergencyResponse, error) {
	if err := authorize(caller, "emergency.open"); err != nil {
		return nil, err
	}
	response := &api.CloseEmergencyResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		response.Count, response.AuditId = 0, ""
		open, err := tx.OpenEmergencyWindows(ctx)
		if err != nil {
			return err
		}
		for _, window := range open {
			if req.Id != "" && req.Id != window.ID {
				continue
			}
			if err := tx.CloseEmergencyWindow(ctx, window.ID); err != nil {
				return err
			}
			response.Count++
		}
		if response.Count == 0 {
			if req.Id != "" {
				return fault.New(fault.NotFound, "emergency window %s is not open", printable(req.Id))
			}
			return nil
		}
		response.AuditId, err = done(ctx, tx, caller, "emergency.close", "EmergencyWindow/"+req.Id, map[string]any{"count": response.Count})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.watchers.wakeAgents()
	return response, nil
}

// ListEmergencies shows what is open, and the credentials for emergencies.
func (c *Control) ListEmergencies(ctx context.Context, caller Caller, _ *api.ListEmergenciesRequest) (*api.ListEmergenciesResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListEmergenciesResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		open, err := tx.OpenEmergencyWindows(ctx)
		if err != nil {
			return err
		}
		for _, window := range open {
			response.Windows = append(response.Windows, windowWire(window))
		}
		credentials, err := tx.EmergencyCredentials(ctx)
		if err != nil {
			return err
		}
		for _, one := range credentials {
			record, err := tx.Certificate(ctx, one.Serial)
			if err != nil {
				return err
			}
			response.Credentials = append(response.Credentials, &api.EmergencyCredential{
				Name: one.Name, Serial: one.Serial.String(), NotAfter: stamp(record.NotAfter), Uses: uint32(one.Uses), Used: uint32(one.Used),
				LastUsedAt: stamp(one.LastUsedAt), CreatedBy: one.CreatedBy, CreatedAt: stamp(record.IssuedAt), Revoked: !record.RevokedAt.IsZero(),
			})
		}
		return nil
	})
	return response, err
}

func windowWire(w store.EmergencyWindow) *api.EmergencyWindow {
	return &api.EmergencyWindow{
		Id: w.ID, Agents: w.Agents, Reason: w.Reason, OpenedBy: w.OpenedBy, OpenedAt: stamp(w.OpenedAt), EndsAt: stamp(w.EndsAt), Renewed: uint32(w.Renewed),
	}
}

// emergenciesIn are, in words, the windows that are open, the emergency
// credentials that were used within a day, and the compromises that are not over.
func emergenciesIn(ctx context.Context, tx *store.Tx) (words []string, err error) {
	open, err := tx.OpenEmergencyWindows(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range open {
		whose := "any agent"
		if len(w.Agents) > 0 {
			whose = fmt.Sprintf("%d agents", len(w.Agents))
		}
		words = append(words, fmt.Sprintf("until %s the expired identity of %s may be renewed: %s (%s); %d were; rotunda emergency close",
			w.EndsAt.Format(time.RFC3339), whose, w.Reason, w.OpenedBy, w.Renewed))
	}
	credentials, err := tx.EmergencyCredentials(ctx)
	for _, one := range credentials {
		if !one.LastUsedAt.IsZero() && tx.Now.Sub(one.LastUsedAt) < 24*time.Hour {
			words = append(words, fmt.Sprintf("emergency credential %s was used at %s, %d of %d times", one.Name, one.LastUsedAt.Format(time.RFC3339), one.Used, one.Uses))
		}
	}
	if err != nil {
		return nil, err
	}
	fallen, err := openCompromises(ctx, tx)
	return append(words, fallen...), err
}

// expiredAgent recognises an agent by an identity that has expired, while a
// window is open for it: the certificate is on record, unrevoked, and its key
// signed this very request. What it may do is renew.
func (c *Control) expiredAgent(ctx context.Context, caller Caller, req *api.RenewIdentityRequest) (Caller, error) {
	refused := func(format string, args ...any) (Caller, error) {
		return caller, fault.New(fault.Forbidden, "expired identity: "+format, args...).
			WithRemedy("an operator lets it in: rotunda emergency open, or gives it another: rotunda agent rejoin")
	}
	cert, err := x509.ParseCertificate(req.Expired)
	if err != nil {
		return refused("it is no certificate")
	}
	serial, err := pki.SerialOf(cert)
	if err != nil {
		return refused("%v", err)
	}
	known := Caller{Kind: Expired, Serial: serial.String(), Address: caller.Address}
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		if err := unrevoked(ctx, tx, serial); err != nil {
			return err
		}
		record, err := tx.Certificate(ctx, serial)
		if err != nil {
			return err
		}
		if record.Kind != store.KindAgent || record.Fingerprint != pki.FingerprintOf(req.Expired) {
			return fault.New(fault.Forbidden, "certificate %s is not the agent's that is recorded", serial)
		}
		known.ID = record.AgentID
		_, err = tx.EmergencyWindowOf(ctx, record.AgentID)
		return err
	})
	if fault.CodeOf(err) == fault.NotFound || fault.CodeOf(err) == fault.Forbidden {
		return refused("%v", err)
	}
	if err != nil {
		return caller, err
	}
	statement := append([]byte(pki.RenewExpired), req.Csr...)
	if !pki.VerifyStatement(cert.PublicKey, statement, req.Signature) {
		return refused("the request is not signed by its key")
	}
	return known, nil
}

// useWindow counts a renewal in the window that allows it, in the transaction
// that renews: closed meanwhile, it allows nothing.
func useWindow(ctx context.Context, tx *store.Tx, caller Caller) error {
	if caller.Kind != Expired {
		return nil
	}
	window, err := tx.EmergencyWindowOf(ctx, caller.ID)
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "expired identity")
	}
	return tx.CountEmergencyRenewal(ctx, window.ID)
}

// emergencyLife is how long the credential lives that an emergency one is
// exchanged for.
const emergencyLife = time.Hour

// CreateEmergency makes an operator's credential that is kept sealed for the
// day when there is no other. It opens UseEmergency and nothing else.
func (c *Control) CreateEmergency(ctx context.Context, caller Caller, req *api.CreateEmergencyRequest) (*api.CreateEmergencyResponse, error) {
	if err := authorize(caller, "emergency.create"); err != nil {
		return nil, err
	}
	csr, err := pki.ParseCSR(req.Csr)
	if err != nil {
		return nil, err
	}
	uses, life := max(uint64(req.Uses), 1), req.Until.AsTime().Sub(c.now())
	if life < time.Minute || life > longestOperatorLife {
		return nil, fault.New(fault.Invalid, "an emergency credential until %s: it ends within 1m to %s from now", req.Until.AsTime().Format(time.RFC3339), fleet.Duration(longestOperatorLife))
	}
	response := &api.CreateEmergencyResponse{}
	err = c.change(ctx, func(tx *store.Tx) error {
		if err := soleEmergency(ctx, tx, req.Name); err != nil {
			return err
		}
		issued, err := c.signOperator(ctx, tx, req.Name, csr, life)
		if err != nil {
			return err
		}
		if err := tx.InsertEmergencyCredential(ctx, store.EmergencyCredential{Serial: issued.Serial, Name: req.Name, Uses: uses, CreatedBy: caller.String()}); err != nil {
			return err
		}
		if response.Anchors, err = c.anchorsIn(ctx, tx); err != nil {
			return err
		}
		response.Chain = issued.Chain
		response.AuditId, err = done(ctx, tx, caller, "emergency.create", "EmergencyCredential/"+req.Name, map[string]any{
			"serial": issued.Serial.String(), "uses": uses, "notAfter": issued.NotAfter.UTC().Format(time.RFC3339),
		})
		return err
	})
	return response, err
}

// soleEmergency refuses a second credential of a name while the first opens
// something: the name is what stands on an envelope in a safe.
func soleEmergency(ctx context.Context, tx *store.Tx, name string) error {
	credentials, err := tx.EmergencyCredentials(ctx)
	if err != nil {
		return err
	}
	for _, one := range credentials {
		if one.Name != name || one.Used >= one.Uses {
			continue
		}
		record, err := tx.Certificate(ctx, one.Serial)
		if ignoreMissing(err) != nil {
			return err
		}
		if err == nil && record.RevokedAt.IsZero() && record.NotAfter.After(tx.Now) {
			return fault.New(fault.Conflict, "emergency credential %s exists: of each name one is good at a time, and this one is until %s", name, record.NotAfter.UTC().Format(time.RFC3339)).
				WithRemedy("choose another name, or revoke it first: rotunda revoke serial %s --now", one.Serial)
		}
	}
	return nil
}

// UseEmergency exchanges the calling emergency credential, once more of the
// times that it may be used, for one that is short-lived.
func (c *Control) UseEmergency(ctx context.Context, caller Caller, req *api.UseEmergencyRequest) (*api.UseEmergencyResponse, error) {
	if err := authorize(caller, "emergency.use"); err != nil {
		return nil, err
	}
	if req.Reason == "" {
		return nil, fault.New(fault.Invalid, "the use of an emergency credential needs a reason, for the record").WithRemedy("say --reason")
	}
	csr, err := pki.ParseCSR(req.Csr)
	if err != nil {
		return nil, err
	}
	serial := *caller.shown()
	response := &api.UseEmergencyResponse{}
	err = c.change(ctx, func(tx *store.Tx) error {
		if err := unrevoked(ctx, tx, serial); err != nil {
			return err
		}
		if err := tx.UseEmergencyCredential(ctx, serial); fault.CodeOf(err) == fault.Conflict && err != nil {
			return fault.New(fault.Forbidden, "emergency credential %s is used up", caller.ID).
				WithRemedy("use another one, or call over the admin socket on the server's host")
		} else if err != nil {
			return err
		}
		credential, err := tx.EmergencyCredential(ctx, serial)
		if err != nil {
			return err
		}
		issued, err := c.signOperator(ctx, tx, "emergency-"+caller.ID, csr, emergencyLife)
		if err != nil {
			return err
		}
		if response.Anchors, err = c.anchorsIn(ctx, tx); err != nil {
			return err
		}
		response.Chain, response.NotAfter, response.UsesLeft = issued.Chain, stamp(issued.NotAfter), uint32(credential.Uses-credential.Used)
		response.AuditId, err = done(ctx, tx, caller, "emergency.use", "EmergencyCredential/"+caller.ID, map[string]any{
			"reason": short(req.Reason), "serial": issued.Serial.String(), "use": credential.Used, "of": credential.Uses,
		})
		return err
	})
	if fault.CodeOf(err) == fault.Forbidden {
		return nil, c.refused(ctx, caller, "emergency.use", "EmergencyCredential/"+caller.ID, err)
	}
	if err != nil {
		return nil, err
	}
	c.log.Warn("EMERGENCY CREDENTIAL USED", "name", caller.ID, "address", caller.Address, "reason", short(req.Reason))
	c.watchers.wakeAgents()
	return response, nil
}
