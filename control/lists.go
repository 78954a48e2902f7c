package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/target"
)

// What stands in a host's crl.pem is one whole list of each authority under the
// anchors of its bundle, the roots' own included: who checks every certificate
// of a chain refuses a chain that lacks one. Which lists belong to a bundle is
// found out once a commit; their bytes are read once for each number.

// listings are the lists that go with each bundle, as one commit left them;
// nil: no profile wants any.
type listings struct {
	byBundle map[pki.BundleDigest]listing
}

// listing is what goes into a crl.pem.
type listing struct {
	heads   []store.CRLHead
	digest  pki.Fingerprint // of the lists one after the other
	until   time.Time       // when the first of them ends
	missing string          // whose list there is none of, in words: nothing is delivered
}

func (c *Control) listingsAt(ctx context.Context, tx *store.Tx) (*listings, error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil || !w.wantsLists() {
		return nil, err
	}
	return c.listingsOf(ctx, tx)
}

func (c *Control) listingsOf(ctx context.Context, tx *store.Tx) (*listings, error) {
	bundles, err := tx.Bundles(ctx)
	if err != nil {
		return nil, err
	}
	all, err := tx.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	found := &listings{byBundle: map[pki.BundleDigest]listing{}}
	for _, bundle := range bundles {
		one, err := c.listingOf(ctx, tx, bundle, all)
		if err != nil {
			return nil, err
		}
		found.byBundle[bundle.Digest] = one
	}
	return found, nil
}

// reviewLists says of each intent that is to have lists delivered, and that the
// files are about, why there will be none.
func (c *Control) reviewLists(ctx context.Context, tx *store.Tx, r *review) error {
	if !r.after.wantsLists() {
		return nil
	}
	lists, err := c.listingsOf(ctx, tx)
	if err != nil {
		return err
	}
	for _, name := range r.after.intents {
		t, about := r.targetOf(name, nil)
		if !about || t.profile == nil || !t.profile.Revocation.CRL || t.CRL == target.Never {
			continue
		}
		bundle, err := tx.CurrentBundle(ctx, string(t.intent.Bundle))
		if fault.CodeOf(err) == fault.NotFound {
			continue // it comes with these files
		}
		if err != nil {
			return err
		}
		if missing := lists.byBundle[bundle.Digest].missing; missing != "" {
			r.findings = append(r.findings, t.finding(fleet.Warning, "spec.profile", "no-crl", "no CRLs will be delivered: "+missing, "mend that; rotunda get authorities shows them"))
		}
	}
	return nil
}

func (w *world) wantsLists() bool {
	for _, document := range w.set.OfKind(fleet.KindProfile) {
		if profile, ok := w.set.Profile(document.Name); ok && profile.Revocation.CRL {
			return true
		}
	}
	return false
}

// listingOf gathers the lists of the authorities under a bundle's anchors. Of
// the chain that is signed under now none may be missing; another, of a change
// of trust, comes when it is there.
func (c *Control) listingOf(ctx context.Context, tx *store.Tx, bundle store.Bundle, all []store.Authority) (listing, error) {
	var found listing
	var missing []string
	for _, authority := range all {
		if authority.CrossOf != "" || !isUnder(authority, bundle, all) || authority.Kind == store.IssuingAuthority && authority.State == fleet.AuthorityWithdrawn {
			continue
		}
		head, err := tx.CRLHead(ctx, authority.ID, ca.WholeList)
		switch {
		case fault.CodeOf(err) == fault.NotFound || err == nil && !head.NextUpdate.After(tx.Now):
			if authority.State == fleet.AuthorityActive {
				missing = append(missing, missingList(authority, head))
			}
			continue
		case err != nil:
			return found, err
		}
		found.heads = append(found.heads, head)
		if found.until.IsZero() || head.NextUpdate.Before(found.until) {
			found.until = head.NextUpdate
		}
	}
	if found.missing = strings.Join(missing, "; "); found.missing != "" || len(found.heads) == 0 {
		return found, nil
	}
	_, digest, err := c.listBytes.read(ctx, tx, found.heads)
	found.digest = digest
	return found, err
}

func missingList(authority store.Authority, head store.CRLHead) string {
	remedy := "its lists are signed by a running server"
	if authority.Kind == store.RootAuthority {
		remedy = rootListRemedy(authority)
	}
	if head.Number == 0 {
		return fmt.Sprintf("authority %s has no CRL: %s", authority.Name, remedy)
	}
	return fmt.Sprintf("the CRL of authority %s ended at %s: %s", authority.Name, head.NextUpdate.Format(time.RFC3339), remedy)
}

// isUnder says whether an authority is one of the bundle's anchors, or signed by
// one.
func isUnder(authority store.Authority, bundle store.Bundle, all []store.Authority) bool {
	for _, anchor := range bundle.Anchors {
		if bytes.Equal(anchor, authority.Certificate) {
			return true
		}
		for _, parent := range all {
			if parent.ID == authority.ParentID && bytes.Equal(anchor, parent.Certificate) {
				return true
			}
		}
	}
	return false
}

// desireLists says which lists a placement is to have beside its bundle.
func desireLists(common *common, expanded fleet.Expanded, bundle pki.BundleDigest, desired *api.DesiredPlacement) {
	if common.lists == nil || !takesLists(expanded) {
		return
	}
	if one := common.lists.byBundle[bundle]; one.digest != (pki.Fingerprint{}) {
		desired.CrlDigest, desired.CrlUntil = one.digest.String(), stamp(one.until)
	}
}

func takesLists(expanded fleet.Expanded) bool {
	if expanded.Profile == nil || !expanded.Profile.Revocation.CRL {
		return false
	}
	adapter, err := target.Lookup(expanded.Target.Kind)
	return err == nil && adapter.CRL != target.Never
}

// listsByDigest returns the lists of a crl.pem, if it is one of today's.
func (c *Control) listsByDigest(ctx context.Context, tx *store.Tx, digest pki.Fingerprint) ([][]byte, error) {
	common, err := c.commonAt(ctx, tx)
	if err != nil {
		return nil, err
	}
	if common.lists != nil {
		for _, one := range common.lists.byBundle {
			if one.digest == digest {
				lists, _, err := c.listBytes.read(ctx, tx, one.heads)
				return lists, err
			}
		}
	}
	return nil, fault.New(fault.NotFound, "there is no bundle, bridge or list %s", digest)
}

// listBytes keeps what was read of lists, for the few sets that are of use at a
// time.
type listBytes struct {
	mu   sync.Mutex
	sets []listSet // the newest last
}

type listSet struct {
	key    string
	digest pki.Fingerprint
	lists  [][]byte
}

const keptListSets = 8

func (b *listBytes) byDigest(digest pki.Fingerprint) [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, set := range b.sets {
		if set.digest == digest {
			return set.lists
		}
	}
	return nil
}

func (b *listBytes) read(ctx context.Context, tx *store.Tx, heads []store.CRLHead) ([][]byte, pki.Fingerprint, error) {
	var key strings.Builder
	for _, head := range heads {
		fmt.Fprintf(&key, "%s ", head.Digest)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, set := range b.sets {
		if set.key == key.String() {
			return set.lists, set.digest, nil
		}
	}
	set := listSet{key: key.String()}
	sum := sha256.New()
	for _, head := range heads {
		list, err := tx.CRL(ctx, head.AuthorityID, head.Shard)
		if err != nil {
			return nil, pki.Fingerprint{}, err
		}
		der := list.DER()
		set.lists = append(set.lists, der)
		sum.Write(der)
	}
	sum.Sum(set.digest[:0])
	b.sets = append(b.sets, set)
	if len(b.sets) > keptListSets {
		b.sets = b.sets[1:]
	}
	return set.lists, set.digest, nil
}
