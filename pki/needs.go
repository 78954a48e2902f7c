package pki

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Needs tells whether a party that trusts b would stop taking the chain, as it
// is served, once the anchor without is taken out of b. No anchor may be
// withdrawn while this is so for a live certificate and one of its relying
// parties.
//
// Relying parties differ. Verify stands for the strictest; crypto/x509, which
// looks for any way round, for the laxest. If either goes from yes to no, the
// anchor is needed: a chain that Verify would never have let out (hand-made,
// root and all) may still be someone's.
//
// An error says that neither takes the chain under b as it is, and why: nothing
// can be lost, but nothing was shown either. What that means is for the caller.
func Needs(chain Chain, b Bundle, without *x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (bool, error) {
	if without == nil {
		return false, fault.New(fault.Invalid, "no anchor was named")
	}
	strict := chain.Verify(b, usage, now)
	if strict != nil && chain.verifyLax(b, usage, now) != nil {
		return false, strict
	}
	if !b.Contains(without) {
		return false, nil
	}
	return chain.lost(b, without, usage, now) != nil, nil
}

// lost is the refusal of a verifier that takes the chain under b and no longer
// when without is gone; nil where there is none.
func (c Chain) lost(b Bundle, without *x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	if slices.ContainsFunc(c.Intermediates, without.Equal) {
		return refuseChain("%s itself stands in it; OpenSSL stops at a root that it does not trust, and looks for no bridge", describe(without))
	}
	rest := b.Without(without)
	verifiers := []func(Bundle, x509.ExtKeyUsage, time.Time) error{c.Verify, c.verifyLax}
	for _, verify := range verifiers {
		if verify(b, usage, now) != nil {
			continue
		}
		if err := verify(rest, usage, now); err != nil {
			return err
		}
	}
	return nil
}

// verifyLax is what crypto/x509 makes of all that is sent, in whatever order.
func (c Chain) verifyLax(b Bundle, usage x509.ExtKeyUsage, now time.Time) error {
	if c.Leaf == nil {
		return refuseChain("it has no leaf")
	}
	between := x509.NewCertPool()
	for _, cert := range c.Intermediates {
		between.AddCert(cert)
	}
	_, err := c.Leaf.Verify(x509.VerifyOptions{
		Roots: b.Pool(), Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}

// Explain says for people what Needs says, and why.
func Explain(chain Chain, b Bundle, without *x509.Certificate, usage x509.ExtKeyUsage, now time.Time) string {
	needs, err := Needs(chain, b, without, usage, now)
	switch {
	case without == nil || chain.Leaf == nil:
		return err.Error()
	case err != nil:
		return fmt.Sprintf("%s does not validate under the bundle %s, with or without %s: %v", describe(chain.Leaf), short(b.digest), describe(without), err)
	case !b.Contains(without):
		return fmt.Sprintf("%s does not need %s: the bundle %s does not have it", describe(chain.Leaf), describe(without), short(b.digest))
	}
	if needs {
		return fmt.Sprintf("%s needs %s: %v", describe(chain.Leaf), describe(without), chain.lost(b, without, usage, now))
	}
	if path, err := chain.pathTo(b.Without(without)); err == nil {
		return fmt.Sprintf("%s does not need %s: it chains to %s too", describe(chain.Leaf), describe(without), describe(path[len(path)-1]))
	}
	return fmt.Sprintf("%s does not need %s: it validates without it", describe(chain.Leaf), describe(without))
}
