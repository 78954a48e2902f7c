package control

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// chosenCertificates are what a request means.
type chosenCertificates struct {
	object  string
	records []store.Certificate
}

// chooseRevoked finds the certificates that a request means and that are live:
// what has expired needs no revocation, and what is revoked has one.
func (c *Control) chooseRevoked(ctx context.Context, tx *store.Tx, req *api.RevokeRequest) (chosenCertificates, error) {
	chosen, err := c.choose(ctx, tx, req)
	if err != nil || len(chosen.records) > 0 {
		return chosen, err
	}
	return chosen, fault.New(fault.NotFound, "%s has no certificate that is valid and not revoked yet", chosen.object).
		WithRemedy("see what there is: rotunda get certificates")
}

func (c *Control) choose(ctx context.Context, tx *store.Tx, req *api.RevokeRequest) (chosenCertificates, error) {
	live := store.CertificateQuery{ValidAfter: tx.Now}
	switch {
	case req.Serial != "":
		return chooseSerial(ctx, tx, req)
	case req.Fingerprint != "":
		return chooseFingerprint(ctx, tx, req)
	case req.Placement != "":
		if _, err := tx.Placement(ctx, req.Placement); err != nil {
			return chosenCertificates{}, err
		}
		live.PlacementID = req.Placement
		return chooseQuery(ctx, tx, "Placement/"+req.Placement, live)
	case req.Key != "":
		digest, err := parseDigest("key", req.Key)
		if err != nil {
			return chosenCertificates{}, err
		}
		live.SPKI = pki.SPKIHash(digest)
		return chooseQuery(ctx, tx, "Key/"+req.Key, live)
	case req.Operator != "":
		live.Kind = store.KindOperator
		chosen, err := chooseQuery(ctx, tx, "Operator/"+req.Operator, live)
		chosen.records = slices.DeleteFunc(chosen.records, func(one store.Certificate) bool { return one.Operator != req.Operator })
		return chosen, err
	case req.Agent != "":
		return chooseAgent(ctx, tx, req.Agent)
	case req.Service != "":
		return c.chooseService(ctx, tx, req)
	}
	return chooseAuthority(ctx, tx, req.Authority)
}

func chooseQuery(ctx context.Context, tx *store.Tx, object string, query store.CertificateQuery) (chosenCertificates, error) {
	records, err := tx.Certificates(ctx, query)
	return chosenCertificates{object, records}, err
}

func parseDigest(what, text string) (digest [32]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(digest) {
		return digest, fault.New(fault.Invalid, "%s %s: it must be the SHA-256, of 64 hexadecimal digits", what, printable(text))
	}
	return [32]byte(raw), nil
}

func chooseSerial(ctx context.Context, tx *store.Tx, req *api.RevokeRequest) (chosenCertificates, error) {
	serial, err := pki.ParseSerial(req.Serial)
	if err != nil {
		return chosenCertificates{}, err
	}
	record, err := tx.Certificate(ctx, serial)
	if err != nil {
		return chosenCertificates{}, err
	}
	return oneCertificate(tx, record, req)
}

func chooseFingerprint(ctx context.Context, tx *store.Tx, req *api.RevokeRequest) (chosenCertificates, error) {
	digest, err := parseDigest("fingerprint", req.Fingerprint)
	if err != nil {
		return chosenCertificates{}, err
	}
	found, err := tx.Certificates(ctx, store.CertificateQuery{Fingerprint: digest, Limit: 1})
	if err != nil {
		return chosenCertificates{}, err
	}
	if len(found) == 0 {
		return chosenCertificates{}, fault.New(fault.NotFound, "no certificate of the fingerprint %s was issued here", req.Fingerprint)
	}
	return oneCertificate(tx, found[0], req)
}

// oneCertificate says what stands in the way of revoking the one that was named.
func oneCertificate(tx *store.Tx, record store.Certificate, req *api.RevokeRequest) (chosenCertificates, error) {
	chosen := chosenCertificates{"Certificate/" + record.Serial.String(), []store.Certificate{record}}
	held := record.Reason == store.OnHold && req.Reason != store.OnHold
	switch {
	case !record.RevokedAt.IsZero() && !held && !req.Lift:
		return chosen, fault.New(fault.Conflict, "certificate %s was revoked already, at %s: %s", record.Serial, record.RevokedAt.Format(time.RFC3339), record.Reason)
	case record.NotAfter.Before(tx.Now):
		return chosen, fault.New(fault.Conflict, "certificate %s expired at %s: nobody takes it any more", record.Serial, record.NotAfter.Format(time.RFC3339))
	case record.Kind == store.KindResponder:
		return chosen, fault.New(fault.Conflict, "certificate %s is an OCSP responder's, which nobody looks for on a list (id-pkix-ocsp-nocheck)", record.Serial).
			WithRemedy("it lives for days only; where its key is lost the server's memory was read: replace the issuing authority (rotunda trust rotate issuing)")
	}
	return chosen, nil
}

// chooseAgent means all that is on the agent's host: its own identities, and
// what its placements hold.
func chooseAgent(ctx context.Context, tx *store.Tx, id string) (chosenCertificates, error) {
	if _, err := tx.Agent(ctx, id); err != nil {
		return chosenCertificates{}, err
	}
	chosen, err := chooseQuery(ctx, tx, "Agent/"+id, store.CertificateQuery{Kind: store.KindAgent, AgentID: id, ValidAfter: tx.Now})
	if err != nil {
		return chosen, err
	}
	placements, err := tx.AgentPlacements(ctx, id)
	if err != nil {
		return chosen, err
	}
	return chosen, chosen.add(ctx, tx, placements)
}

func (c *chosenCertificates) add(ctx context.Context, tx *store.Tx, placements []store.Placement) error {
	for _, placement := range placements {
		held, err := tx.Certificates(ctx, store.CertificateQuery{PlacementID: placement.ID, ValidAfter: tx.Now})
		if err != nil {
			return err
		}
		c.records = append(c.records, held...)
	}
	return nil
}

func (c *Control) chooseService(ctx context.Context, tx *store.Tx, req *api.RevokeRequest) (chosenCertificates, error) {
	chosen := chosenCertificates{object: "Service/" + req.Service}
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return chosen, err
	}
	if _, ok := w.set.Service(fleet.Name(req.Service)); !ok {
		return chosen, fault.New(fault.NotFound, "service %s does not exist", printable(req.Service))
	}
	for _, name := range w.intents {
		intent, ok := w.set.Intent(name)
		if !ok || string(intent.Service) != req.Service {
			continue
		}
		placements, err := tx.IntentPlacements(ctx, string(name))
		if err != nil {
			return chosen, err
		}
		if placements, err = labelled(ctx, tx, placements, req.Labels); err != nil {
			return chosen, err
		}
		if err := chosen.add(ctx, tx, placements); err != nil {
			return chosen, err
		}
	}
	return chosen, nil
}

// labelled keeps the placements on agents with the labels.
func labelled(ctx context.Context, tx *store.Tx, placements []store.Placement, labels map[string]string) ([]store.Placement, error) {
	if len(labels) == 0 {
		return placements, nil
	}
	var kept []store.Placement
	for _, placement := range placements {
		agent, err := tx.Agent(ctx, placement.AgentID)
		if err != nil {
			return nil, err
		}
		if inSlice(labels, agent) {
			kept = append(kept, placement)
		}
	}
	return kept, nil
}

// chooseAuthority means an issuing authority's own certificate. One that signs
// now is refused: its leaves would all be refused before any has a successor.
func chooseAuthority(ctx context.Context, tx *store.Tx, name string) (chosenCertificates, error) {
	chosen := chosenCertificates{object: "Authority/" + name}
	authority, err := tx.AuthorityByName(ctx, name)
	if err != nil {
		return chosen, err
	}
	switch {
	case authority.Kind == store.RootAuthority && authority.CrossOf == "":
		return chosen, fault.New(fault.Conflict, "authority %s is a root: nobody can revoke it, each party has to stop trusting it", name).
			WithRemedy("rotunda trust failover, or rotunda trust rotate root")
	case authority.Origin == store.KeyForeign:
		return chosen, fault.New(fault.Conflict, "authority %s is not ours: whoever signed it revokes it", name)
	case authority.State == fleet.AuthorityRetired && underForeign(ctx, tx, authority):
		return chosen, fault.New(fault.Conflict, "authority %s is for canaries under a root that is not ours: its owner revokes it", name)
	case authority.State == fleet.AuthorityActive || authority.State == fleet.AuthorityPrepared:
		return chosen, fault.New(fault.Conflict, "authority %s is %s: each certificate that it signed would be refused at once", name, authority.State).
			WithRemedy("replace it first: rotunda trust rotate issuing; where its key is lost, go on to another root (rotunda trust failover, rotunda trust rotate root)")
	}
	certificate, err := certificateOf(authority)
	if err != nil {
		return chosen, err
	}
	serial, err := pki.SerialOf(certificate)
	if err != nil {
		return chosen, err
	}
	record, err := tx.Certificate(ctx, serial)
	if fault.CodeOf(err) == fault.NotFound {
		record, err = authorityRecord(authority)
	}
	if err != nil {
		return chosen, err
	}
	if !record.RevokedAt.IsZero() {
		return chosen, fault.New(fault.Conflict, "authority %s was revoked already, at %s", name, record.RevokedAt.Format(time.RFC3339))
	}
	chosen.records = append(chosen.records, record)
	return chosen, nil
}

func authorityRecord(authority store.Authority) (store.Certificate, error) {
	certificate, err := certificateOf(authority)
	if err != nil {
		return store.Certificate{}, err
	}
	serial, err := pki.SerialOf(certificate)
	if err != nil {
		return store.Certificate{}, err
	}
	spki, err := pki.SPKIHashOf(certificate.PublicKey)
	return store.Certificate{
		Serial: serial, Kind: store.KindAuthority, AuthorityID: authority.ParentID, Names: certificate.Subject.String(),
		SPKI: spki, Fingerprint: pki.FingerprintOf(certificate.Raw), CRLShard: int(serial.Shard()),
		NotBefore: certificate.NotBefore, NotAfter: certificate.NotAfter, IssuedAt: authority.CreatedAt, DER: certificate.Raw,
	}, err
}
