package control

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// Canaries under a root that is not ours need an authority under it. The root's key
// signs that one by a ceremony, as it would for a root of ours, and never comes here:
// what is kept, sealed, is the key of the authority below it, which can certify
// nothing but names of this trust domain's own. It signs canaries and its own lists
// until the change of trust away from the root ends, and then its key goes.

// canaryKind is what is asked of PrepareTrust for one.
const canaryKind = "canaries"

// prepareCanaries is the request for an authority that signs canaries under a root.
// The root need not be recorded yet: it is with the answer.
func (c *Control) prepareCanaries(ctx context.Context, tx *store.Tx, req *api.PrepareTrustRequest) (ceremony, error) {
	made := ceremony{Kind: store.IssuingChange, ChangeID: newID(), IssuingID: newID(), Canaries: true}
	root, err := x509.ParseCertificate(req.Root)
	if err != nil {
		return made, fault.Wrap(fault.Invalid, err, "the root that canaries are to be under")
	}
	if _, err := ca.CheckForeign(tx.Now, root); err != nil {
		return made, err
	}
	known, found, err := recordedAs(ctx, tx, root)
	if err != nil {
		return made, err
	}
	parent := newID()
	if found {
		parent = known.ID
		if err := canStillBeTried(ctx, tx, known); err != nil {
			return made, err
		}
	}
	now, err := c.issuer(ctx, tx)
	if err != nil {
		return made, err
	}
	order, err := c.nextIssuing(tx, now.Certificate, req)
	if err != nil {
		return made, err
	}
	if left := root.NotAfter.Sub(tx.Now).Truncate(time.Second); left < order.Lifetime {
		order.Lifetime = left
	}
	order.ParentID, order.Name = parent, c.domain.Name()+" canaries "+tx.Now.Format("2006-01-02 150405")
	if order, err = ca.CanaryOrder(root, order); err != nil {
		return made, err
	}
	return made.ask(ca.CeremonyOrder{PublicURL: c.publicURL, Issuing: order, Root: root})
}

// recordedAs is the authority that has the certificate.
func recordedAs(ctx context.Context, tx *store.Tx, certificate *x509.Certificate) (record store.Authority, found bool, err error) {
	all, err := tx.Authorities(ctx)
	for _, one := range all {
		if string(one.Certificate) == string(certificate.Raw) {
			return one, true, err
		}
	}
	return record, false, err
}

// canStillBeTried refuses an authority for canaries where it could prove nothing:
// under a root of ours, under one that has gone, and under one that the bundles have
// lost already, since parties have shown those without a canary under it.
func canStillBeTried(ctx context.Context, tx *store.Tx, root store.Authority) error {
	switch {
	case root.Kind != store.RootAuthority || root.Origin != store.KeyForeign:
		return fault.New(fault.Conflict, "the certificate is recorded already, as %s, which is ours: its key is where it was made", root.Name).
			WithRemedy("rotunda get authorities")
	case root.State == fleet.AuthorityWithdrawn:
		return fault.New(fault.Conflict, "%s is withdrawn already: nothing is left to be tried under it", root.Name)
	}
	all, err := tx.Authorities(ctx)
	if err != nil {
		return err
	}
	if one, until, found := canaryAuthority(all, root, tx.Now); found {
		return fault.New(fault.Conflict, "canaries under %s are signed already, by %s until %s", root.Name, one.Name, until.UTC().Format("2006-01-02")).
			WithRemedy("rotunda trust rotate root --from %s begins the change", root.Name)
	}
	change, leaving, err := leavingFrom(ctx, tx, root)
	if err != nil {
		return err
	}
	if !leaving {
		return noneOpen(ctx, tx)
	}
	if inSomeBundle(ctx, tx, root) != nil {
		return fault.New(fault.Conflict, "trust change %s has withdrawn %s: parties have shown their bundles without a canary under it, so it comes too late to prove anything", change.ID, root.Name).
			WithRemedy("see the change through: rotunda trust status")
	}
	return nil
}

// leavingFrom is the open change that leads away from a root.
func leavingFrom(ctx context.Context, tx *store.Tx, root store.Authority) (store.TrustChange, bool, error) {
	open, err := tx.OpenTrustChanges(ctx)
	i := slices.IndexFunc(open, func(change store.TrustChange) bool { return !change.Standby && change.OldRoot == root.ID })
	if err != nil || i < 0 {
		return store.TrustChange{}, false, err
	}
	return open[i], true, nil
}

// canaryAuthority is the one that signs canaries under a root that is not ours, at a
// moment. One that has ended signs none, and nobody would take them.
func canaryAuthority(all []store.Authority, root store.Authority, at time.Time) (signs store.Authority, until time.Time, found bool) {
	if root.Origin != store.KeyForeign {
		return signs, until, false
	}
	for _, one := range issuingUnder(all, root.ID) {
		certificate, err := certificateOf(one)
		if err != nil || one.Origin != store.KeyHere {
			continue
		}
		if left := certificate.NotAfter.Sub(at); left > canaryTerms.Lifetime {
			return one, certificate.NotAfter, true
		}
	}
	return signs, until, false
}

// underForeign says whether the root above an authority is not ours.
func underForeign(ctx context.Context, tx *store.Tx, record store.Authority) bool {
	root, err := rootOf(ctx, tx, record)
	return err == nil && root.Origin == store.KeyForeign
}

// foreignAndLapsed says whether an authority under a root that is not ours has ended,
// or as good as that.
func foreignAndLapsed(ctx context.Context, tx *store.Tx, by *signer, revoked bool) (bool, error) {
	needs := canaryTerms.Lifetime
	if revoked {
		needs = revokedCanaryTerms.Lifetime / 10 // see ca.Authority.Prepare
	}
	if by.Certificate.NotAfter.Sub(tx.Now) > needs {
		return false, nil
	}
	record, err := tx.Authority(ctx, by.ID)
	if err != nil {
		return false, err
	}
	root, err := rootOf(ctx, tx, record)
	return err == nil && root.Origin == store.KeyForeign, err
}

// canariesFrom is the authority that a response brought for canaries under a root, as
// it is to be recorded. Its parent's id is what the root is recorded under, or will be.
func (c *Control) canariesFrom(ctx context.Context, tx *store.Tx, name string, root *x509.Certificate, response []byte) (kept ceremony, record store.Authority, err error) {
	signed, err := ca.ParseCeremonyResponse(response)
	if err != nil {
		return kept, record, err
	}
	if kept, err = c.keptCeremony(ctx, tx); err != nil {
		return kept, record, err
	}
	if !kept.Canaries {
		return kept, record, fault.New(fault.Conflict, "the request that waits for a response is not for canaries under a root that is not ours").
			WithRemedy("prepare one: rotunda authority import --request FILE")
	}
	request, err := kept.answeredBy(tx.Now, signed)
	if err != nil {
		return kept, record, err
	}
	if !request.Root.Equal(root) {
		return kept, record, fault.New(fault.Conflict, "the request that waits for a response is for the root %q, not for %q", request.Root.Subject, root.Subject).
			WithRemedy("give the certificate that it was prepared with, or prepare another")
	}
	all, err := tx.Authorities(ctx)
	return kept, store.Authority{
		ID: kept.IssuingID, Name: nextName(all, name+"-canaries"), Kind: store.IssuingAuthority, State: fleet.AuthorityRetired,
		Origin: store.KeyHere, ParentID: request.Issuing.ParentID, Certificate: signed.Issuing.Raw,
	}, err
}

// keepCanaryKey seals the key of the authority, and forgets the request.
func (c *Control) keepCanaryKey(ctx context.Context, tx *store.Tx, kept ceremony) error {
	sealed, err := c.kek.Wrap(kept.Key, []byte(kept.IssuingID))
	if err != nil {
		return err
	}
	if err := tx.PutAuthorityKey(ctx, store.AuthorityKey{AuthorityID: kept.IssuingID, KEKID: c.kek.ID(), Sealed: sealed}); err != nil {
		return err
	}
	return tx.DeleteSecret(ctx, ceremonyName)
}
