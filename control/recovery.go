package control

import (
	"context"
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// recovery is what others know that the store does not: certificates that its
// own authorities signed, and revocations. Nothing in it is believed for who
// says it: a certificate and a list by their signatures, an entry by whoever
// restores.
type recovery struct {
	c       *Control
	ctx     context.Context
	tx      *store.Tx
	signers ownedSigners

	held    []held
	lists   []*x509.RevocationList
	entries []entryOf
	last    map[string]uint64 // placement → the highest number used

	fresh       []store.Certificate // to be recorded
	refused     []*api.RestoreCertificate
	revoked     map[pki.Serial]revoked
	unknown     []string // agents that the store does not know
	fallen      []fallen // compromises that the store has lost, and that were not over
	numbers     map[listOf]int64
	retired     []string
	strangeCRLs int
}

type held struct {
	agent, placement string
	generation       uint64
	der              []byte
}

type revoked struct {
	authority, reason, from string
	unrecorded              bool
	notAfter                time.Time // of what is unrecorded
}

type listOf struct {
	authority string
	number    int // of the shard
}

func (c *Control) newRecovery(ctx context.Context, tx *store.Tx) (*recovery, error) {
	signers, err := ownSigners(ctx, tx)
	return &recovery{
		c: c, ctx: ctx, tx: tx, signers: signers,
		last: map[string]uint64{}, revoked: map[pki.Serial]revoked{}, numbers: map[listOf]int64{},
	}, err
}

// hear takes one agent's testimony.
func (r *recovery) hear(agent string, said *api.TestifyRequest) {
	for _, der := range said.Identities {
		r.held = append(r.held, held{agent: agent, der: der})
	}
	for _, placement := range said.Placements {
		for _, one := range placement.Certificates {
			r.held = append(r.held, held{agent, placement.PlacementId, one.Generation, one.Der})
		}
		r.last[placement.PlacementId] = max(r.last[placement.PlacementId], placement.LastGeneration)
	}
	for _, der := range said.Crls {
		r.list(der)
	}
}

func (r *recovery) list(der []byte) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		r.strangeCRLs++
		return
	}
	r.lists = append(r.lists, list)
}

// weigh finds out what of it is news.
func (r *recovery) weigh() error {
	placements, err := r.placements()
	if err != nil {
		return err
	}
	if err := r.weighCertificates(placements); err != nil {
		return err
	}
	if err := r.weighLists(); err != nil {
		return err
	}
	return r.weighEntries()
}

func (r *recovery) placements() (map[string]store.Placement, error) {
	all, err := r.tx.Placements(r.ctx)
	byID := make(map[string]store.Placement, len(all))
	for _, one := range all {
		byID[one.ID] = one
	}
	for id := range r.last {
		if r.last[id] > maxGeneration {
			delete(r.last, id) // no column holds it, and no agent gets there
		}
	}
	return byID, err
}

// maxGeneration is the greatest number of a generation that columns can hold.
const maxGeneration = 1 << 62

func (r *recovery) weighCertificates(placements map[string]store.Placement) error {
	seen := map[pki.Serial]bool{}
	strangers := map[string]bool{}
	for _, one := range r.held {
		record, why := r.recordOf(one, placements)
		if why != "" {
			r.refuse(record, one, why)
			continue
		}
		if seen[record.Serial] {
			continue
		}
		seen[record.Serial] = true
		before, err := r.tx.Certificate(r.ctx, record.Serial)
		switch {
		case err == nil && before.Fingerprint == record.Fingerprint, err == nil && len(before.DER) == 0:
			continue
		case err == nil:
			r.refuse(record, one, "another certificate of this serial is recorded")
			continue
		case fault.CodeOf(err) != fault.NotFound:
			return err
		}
		if archived, err := r.tx.IsArchived(r.ctx, record.Serial); err != nil {
			return err
		} else if archived {
			continue // its record is whole, elsewhere
		}
		if record.PlacementID != "" {
			taken, err := r.tx.PlacementCertificate(r.ctx, record.PlacementID, record.Generation)
			if err == nil {
				r.refuse(record, one, "generation has certificate "+taken.Serial.String()+" here")
				record.PlacementID, record.Generation = "", 0 // it gets its record all the same
			} else if fault.CodeOf(err) != fault.NotFound {
				return err
			}
		}
		if _, err := r.tx.Agent(r.ctx, one.agent); fault.CodeOf(err) == fault.NotFound {
			strangers[one.agent] = true
		} else if err != nil {
			return err
		}
		r.fresh = append(r.fresh, record)
	}
	r.unknown = slices.Sorted(maps.Keys(strangers))
	return nil
}

func (r *recovery) refuse(record store.Certificate, one held, why string) {
	r.refused = append(r.refused, &api.RestoreCertificate{
		Serial: record.Serial.String(), AgentId: one.agent, PlacementId: one.placement, Generation: one.generation, Kind: string(record.Kind), Refused: why,
	})
}

// recordOf is the record that a certificate gets, or why it gets none.
func (r *recovery) recordOf(one held, placements map[string]store.Placement) (store.Certificate, string) {
	cert, err := x509.ParseCertificate(one.der)
	if err != nil {
		return store.Certificate{}, "it is no certificate"
	}
	serial, err := pki.SerialOf(cert)
	if err != nil {
		return store.Certificate{}, err.Error()
	}
	record := store.Certificate{Serial: serial, Kind: store.KindLeaf, AgentID: one.agent}
	by := r.signers.of(cert)
	if by == nil || cert.IsCA {
		return record, "no authority of this store signed it"
	}
	spki, err := pki.SPKIHashOf(cert.PublicKey)
	if err != nil {
		return record, err.Error()
	}
	names := pki.NamesOf(cert)
	record.AuthorityID, record.SPKI, record.Fingerprint = by.ID, spki, pki.FingerprintOf(cert.Raw)
	record.CRLShard, record.Names, record.DER = int(serial.Shard()), strings.Join(names.Strings(), " "), cert.Raw
	record.NotBefore, record.NotAfter, record.IssuedAt = cert.NotBefore.UTC(), cert.NotAfter.UTC(), serial.Time()
	if strings.HasPrefix(names.URI, "spiffe://"+r.c.domain.Name()+"/rotunda/") {
		id, err := r.c.agentIn(cert)
		if err != nil || id != one.agent || one.placement != "" {
			return record, "it is " + printable(names.URI)
		}
		record.Kind = store.KindAgent
		return record, ""
	}
	if one.placement == "" {
		return record, "it is no agent's"
	}
	if placement, ok := placements[one.placement]; ok && placement.AgentID == one.agent && one.generation > 0 && one.generation <= maxGeneration {
		record.PlacementID, record.Generation, record.Intent = placement.ID, one.generation, placement.Intent
	}
	return record, ""
}

// apply records what is news, each with its audit entry, and returns how much.
func (r *recovery) apply(caller Caller) (int, error) {
	for _, record := range r.fresh {
		if err := r.tx.InsertCertificates(r.ctx, record); err != nil {
			return 0, err
		}
		_, err := done(r.ctx, r.tx, caller, "certificate.reentered", "Agent/"+record.AgentID, map[string]any{
			"serial": record.Serial.String(), "fingerprint": record.Fingerprint.String(), "kind": string(record.Kind),
			"placement": record.PlacementID, "generation": record.Generation, "authority": record.AuthorityID,
		})
		if err != nil {
			return 0, err
		}
	}
	for id, last := range r.last {
		if err := r.tx.RaiseLastGeneration(r.ctx, id, last); err != nil {
			return 0, err
		}
	}
	if err := r.applyLists(); err != nil {
		return 0, err
	}
	n, err := r.applyRevocations(caller)
	return len(r.fresh) + n, err
}

// ownedSigners are the authorities whose keys are, or were, here.
type ownedSigners []ownedSigner

type ownedSigner struct {
	store.Authority
	cert *x509.Certificate
}

func ownSigners(ctx context.Context, tx *store.Tx) (ownedSigners, error) {
	all, err := tx.Authorities(ctx)
	var own ownedSigners
	for _, one := range all {
		if one.Kind != store.IssuingAuthority || one.Origin != store.KeyHere || one.CrossOf != "" {
			continue
		}
		cert, err := x509.ParseCertificate(one.Certificate)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "certificate of authority %s", one.ID)
		}
		own = append(own, ownedSigner{one, cert})
	}
	return own, err
}

// of is the authority that signed the certificate, or nil.
func (all ownedSigners) of(cert *x509.Certificate) *ownedSigner {
	for i := range all {
		if cert.CheckSignatureFrom(all[i].cert) == nil {
			return &all[i]
		}
	}
	return nil
}
