package agent

import (
	"context"
	"crypto/x509"
	"maps"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/target"
)

// CRLs and a staple come beside a certificate, by digest like a bundle, and are
// part of a revision. What is signed in them is looked at here once more: the
// process would refuse everybody for a list that does not fit.

// listsAgain is when what could not be had is looked for again.
const listsAgain = 30 * time.Second

// beside is the CRLs and the staple that are desired of one placement, in memory.
type beside struct {
	crls      pki.CRLs // of digest zero: not to be had
	want      pki.Fingerprint
	triedCRLs time.Duration

	staple      pki.Staple // without DER: not to be had
	wantStaple  pki.Fingerprint
	triedStaple time.Duration
}

// fetchLists sees to it that the desired CRLs and staple are known before it is
// asked what they are good for.
func (p *placement) fetchLists(ctx context.Context, w *wish) {
	if w.desired.Orphan || w.bare {
		return
	}
	have, now := &p.beside, p.e.elapsed()
	if want := w.desired.CRL.Digest; have.want != want || !want.IsZero() && have.crls.Digest() != want && now-have.triedCRLs >= listsAgain {
		crls, err := p.crls(ctx, want)
		if ctx.Err() != nil {
			return
		}
		p.missed("CRLs", want, err)
		have.crls, have.want, have.triedCRLs = crls, want, now
	}
	if want := w.desired.Staple.Digest; have.wantStaple != want || !want.IsZero() && have.staple.DER == nil && now-have.triedStaple >= listsAgain {
		staple, err := p.stapleOf(ctx, want)
		if ctx.Err() != nil {
			return
		}
		p.missed("staple", want, err)
		have.staple, have.wantStaple, have.triedStaple = staple, want, now
	}
}

func (p *placement) missed(what string, digest pki.Fingerprint, err error) {
	if err != nil {
		p.e.Log.Warn(what+" could not be had", "placement", p.id, "digest", digest.String(), "error", err.Error())
	}
}

// crls finds CRLs: the placement's own copy, else the agent's. Those of digest
// zero are none.
func (p *placement) crls(ctx context.Context, digest pki.Fingerprint) (pki.CRLs, error) {
	if digest.IsZero() {
		return pki.CRLs{}, nil
	}
	if crls, err := p.drawer.crls(digest); err == nil {
		return crls, nil
	}
	if p.e.CRLs == nil {
		return pki.CRLs{}, fault.New(fault.Unavailable, "CRLs %s: there is nobody to ask for them", digest)
	}
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	crls, err := p.e.CRLs(ctx, digest.String())
	switch {
	case err != nil:
		return pki.CRLs{}, fault.Wrap(fault.Unavailable, err, "find CRLs %s", digest)
	case crls.Digest() != digest:
		return pki.CRLs{}, fault.New(fault.Unavailable, "CRLs %s: others came", digest)
	}
	return crls, nil
}

// stapleOf finds a staple in the same way.
func (p *placement) stapleOf(ctx context.Context, digest pki.Fingerprint) (pki.Staple, error) {
	if digest.IsZero() {
		return pki.Staple{}, nil
	}
	if staple, err := p.drawer.staple(digest); err == nil {
		return staple, nil
	}
	if p.e.Staple == nil {
		return pki.Staple{}, fault.New(fault.Unavailable, "staple %s: there is nobody to ask for it", digest)
	}
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	der, err := p.e.Staple(ctx, digest.String())
	switch {
	case err != nil:
		return pki.Staple{}, fault.Wrap(fault.Unavailable, err, "find staple %s", digest)
	case pki.FingerprintOf(der) != digest:
		return pki.Staple{}, fault.New(fault.Unavailable, "staple %s: another came", digest)
	}
	return pki.ParseStaple(der)
}

// dated is what rotations go by: the lists themselves say when they end.
func (p *placement) dated(w *wish, d *rotation.Desired) {
	if b := &p.beside; !d.CRL.None() && b.crls.Digest() == d.CRL.Digest {
		d.CRL.From, d.CRL.Until = b.crls.Life()
	}
	if b := &p.beside; !d.Staple.None() && b.wantStaple == d.Staple.Digest && b.staple.DER != nil {
		d.Staple.From, d.Staple.Until = b.staple.From, b.staple.Until
	}
	d.OpenOnStale = w.staleCRL == fleet.StaleOpen && w.adapter.SetsCRLAside()
}

// listFacts notes which of the desired are at hand, and whose the staple is. One
// that does not hold for its certificate is for none.
func (p *placement) listFacts(w *wish, f *rotation.Facts) {
	f.NoCRL = !w.desired.CRL.None() && p.beside.crls.Digest() != w.desired.CRL.Digest
	if w.desired.Staple.None() || p.beside.wantStaple != w.desired.Staple.Digest || p.beside.staple.DER == nil {
		return
	}
	for _, g := range p.record.Generations {
		chain, err := p.drawer.chain(g.Number)
		if err == nil && p.beside.staple.For(chain.Leaf) && p.fits(chain) == nil {
			f.Stapled = g.Number
		}
	}
}

// fits says whether the staple may be stapled to the certificate.
func (p *placement) fits(chain pki.Chain) error {
	if len(chain.Intermediates) == 0 {
		return fault.New(fault.Invalid, "the chain has no issuer to hold a staple against")
	}
	return p.beside.staple.Check(chain.Leaf, chain.Intermediates[0], p.e.Now())
}

// saveLists keeps what a revision is to hold.
func (p *placement) saveLists(ctx context.Context, v rotation.Revision) error {
	if !v.CRL.None() {
		crls, err := p.crls(ctx, v.CRL.Digest)
		if err != nil {
			return err
		}
		if err := p.drawer.saveCRLs(crls); err != nil {
			return err
		}
	}
	if v.Staple.None() {
		return nil
	}
	staple, err := p.stapleOf(ctx, v.Staple.Digest)
	if err != nil {
		return err
	}
	return p.drawer.saveStaple(staple)
}

// misfitError is a fault of the CRLs alone.
type misfitError struct{ error }

// examineLists says whether the lists of a revision fit what it stands beside.
// Those of an authority whose certificate is not known here can't be held against
// its key; whoever reads them does that.
func (p *placement) examineLists(v rotation.Revision, c *credential, b pki.Bundle) error {
	if v.CRL.None() {
		return nil
	}
	crls, err := p.drawer.crls(v.CRL.Digest)
	if err != nil {
		return err
	}
	known := b.Anchors()
	for _, one := range p.canaries.list {
		if chain, err := pki.ParseChainDER(one.certificate.Certificate); err == nil {
			known = append(known, chain.Intermediates...)
		}
	}
	var chain []*x509.Certificate
	if c != nil {
		chain = authoritiesOf(c.chain, b)
	}
	if err := crls.Check(chain, known, p.record.Lists, p.e.Now()); err != nil {
		return &misfitError{err}
	}
	if c == nil || !crls.Revokes(c.chain.Leaf) {
		return nil
	}
	if stands := p.record.Standing(); stands == nil || stands.Generation != v.Generation {
		return &spoiledError{fault.New(fault.Conflict, "the certificate is on the CRL that is delivered with it: it was revoked")}
	}
	p.e.Log.Warn("the certificate in use is on the CRL: it was revoked", "placement", p.id, "generation", v.Generation)
	return nil
}

// authoritiesOf is all authorities of a chain, the roots of the bundle that it
// leads to included.
func authoritiesOf(chain pki.Chain, b pki.Bundle) []*x509.Certificate {
	all := slices.Clone(chain.Intermediates)
	for _, anchor := range b.Anchors() {
		if chain.LeadsTo(anchor) {
			all = append(all, anchor)
		}
	}
	return all
}

// listed says in words that the certificate of a revision is on its own CRL.
func (p *placement) listed(v *rotation.Revision) string {
	if v == nil || v.CRL.None() || v.Generation == 0 {
		return ""
	}
	if p.onList.revision != v.Number {
		p.onList.revision, p.onList.yes = v.Number, false
		crls, err := p.drawer.crls(v.CRL.Digest)
		chain, missing := p.drawer.chain(v.Generation)
		p.onList.yes = err == nil && missing == nil && crls.Revokes(chain.Leaf)
	}
	if !p.onList.yes {
		return ""
	}
	return "the certificate in use is on the CRL: it was revoked"
}

// onList remembers the answer, for lists are long.
type onList struct {
	revision uint64
	yes      bool
}

// remember notes the numbers of the lists of a revision that stands.
func (p *placement) remember(r *record, v rotation.Revision) {
	if v.CRL.None() {
		return
	}
	crls, err := p.drawer.crls(v.CRL.Digest)
	if err != nil {
		return // it was read at the check; the numbers of the last ones stay
	}
	numbers := maps.Clone(r.Lists)
	if numbers == nil {
		numbers = map[string]string{}
	}
	maps.Copy(numbers, crls.Numbers())
	r.Lists = numbers
}

// besides is what a revision's files hold beside certificate and bundle.
type besides struct {
	crls   pki.CRLs
	single []byte // the list of the certificate's own issuer, DER
	config []byte // of the process, that names the CRL or does not; nil: its kind takes none
	staple []byte

	stapleConfig []byte // as config, of the response
}

func (p *placement) besides(w *wish, v rotation.Revision, c *credential, b pki.Bundle) (besides, error) {
	var s besides
	var err error
	if w.staleCRL != "" && !w.bare {
		s.config = w.adapter.CRLConfig(w.target, !v.CRL.None())
	}
	if w.staples && !w.bare {
		s.stapleConfig = w.adapter.StapleConfig(w.target, !v.Staple.None())
	}
	if !v.CRL.None() {
		if s.crls, err = p.drawer.crls(v.CRL.Digest); err != nil {
			return s, err
		}
		if c != nil {
			s.single = s.crls.Of(authoritiesOf(c.chain, b)[0])
		}
	}
	if !v.Staple.None() {
		staple, err := p.drawer.staple(v.Staple.Digest)
		if err != nil {
			return s, err
		}
		s.staple = staple.DER
	}
	return s, nil
}

// names lists the files of these.
func (w *wish) besideNames(v rotation.Revision) []string {
	var names []string
	if w.staleCRL != "" && w.adapter.CRLConfig(target.Target{}, false) != nil {
		names = append(names, crlConfigFile)
	}
	if w.staples && w.adapter.StapleConfig(target.Target{}, false) != nil {
		names = append(names, stapleConfig)
	}
	if !v.CRL.None() {
		names = append(names, crlFile)
		if v.Generation != 0 {
			names = append(names, singleCRLFile)
		}
	}
	if !v.Staple.None() {
		names = append(names, stapleFile)
		if slices.Contains(w.files.formats, fleet.FormatCombined) {
			names = append(names, combinedStaple)
		}
	}
	return names
}
