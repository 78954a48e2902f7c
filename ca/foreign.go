package ca

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// longNotice is how early the end of a foreign root is worth a warning: it
// takes its owner's ceremony and every relying party to replace it.
const longNotice = 180 * 24 * time.Hour

// Keyless is the warning of a root by whose key nothing can be signed for us.
const Keyless = "its key is not here: no canary can be signed under it, so that a process trusts it, or no longer does, stays unprovable: " +
	"its withdrawal rests on what processes say that they loaded"

// CheckForeign tells whether a root whose key is not ours may be recorded as an
// authority, and put into bundles. Issuing are authorities known to be under it;
// each must be signed by it. The warnings say, for an operator, what will be
// impossible or unprovable under such a root; Keyless is always the first.
func CheckForeign(now time.Time, root *x509.Certificate, issuing ...*x509.Certificate) (warnings []string, err error) {
	if _, err := pki.NewBundle([]*x509.Certificate{root}); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "foreign root")
	}
	if err := checkForeignDates(now, root); err != nil {
		return nil, err
	}
	if len(root.UnhandledCriticalExtensions) > 0 {
		return nil, fault.New(fault.Invalid, "foreign root %q has the critical extension %s, for which Go refuses whatever is under it",
			root.Subject, root.UnhandledCriticalExtensions[0])
	}
	for _, cert := range issuing {
		if err := checkForeignIssuing(now, root, cert); err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "foreign issuing authority %q", cert.Subject)
		}
	}
	return foreignWarnings(now, root), nil
}

func checkForeignDates(now time.Time, cert *x509.Certificate) error {
	if now.Before(cert.NotBefore) {
		return fault.New(fault.Invalid, "%q is not valid before %s; now it is %s", cert.Subject, stamp(cert.NotBefore), stamp(now)).
			WithRemedy("wait, or check the clock")
	}
	if now.After(cert.NotAfter) {
		return fault.New(fault.Invalid, "%q expired at %s", cert.Subject, stamp(cert.NotAfter)).
			WithRemedy("ask its owner for the one that follows it")
	}
	return nil
}

func checkForeignIssuing(now time.Time, root, cert *x509.Certificate) error {
	if bytes.Equal(cert.RawSubject, cert.RawIssuer) {
		return fault.New(fault.Invalid, "it is issued by its own name, so it is a root").WithRemedy("import it by itself")
	}
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return fault.New(fault.Invalid, "it is not a CA certificate")
	}
	if err := pki.CheckLink(cert, root); err != nil {
		return err
	}
	return checkForeignDates(now, cert)
}

// foreignWarnings are in the order in which an operator would meet them.
func foreignWarnings(now time.Time, root *x509.Certificate) []string {
	warnings := []string{Keyless}
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	if left := root.NotAfter.Sub(now); left < longNotice {
		warn("it ends at %s: ask its owner now for the one that follows it", stamp(root.NotAfter))
	}
	if len(root.SubjectKeyId) == 0 {
		warn("it has no subject key identifier: there can be no bridge from it or to it, and a root of the same name can't be told from it")
	}
	if _, err := pki.AlgorithmOf(root.PublicKey); err != nil {
		warn("its key is of a kind that is not certified here, so no bridge can lead to it: %v", err)
	}
	if n, limited := pathLength(root); limited && n < belowOld {
		warn("it allows %d authorities below it (pathLenConstraint): there can be no bridge from it", n)
	}
	if root.KeyUsage&x509.KeyUsageCertSign == 0 {
		warn("it has no keyUsage: who checks strictly (openssl -x509_strict) refuses what is under it")
	}
	if root.KeyUsage != 0 && root.KeyUsage&x509.KeyUsageCRLSign == 0 {
		warn("its keyUsage lacks cRLSign: a revocation of its issuing authorities can't be checked by its own CRLs")
	}
	if !forTLS(root) {
		warn("its extended key usages leave out serverAuth or clientAuth: leaves for that are refused under it")
	}
	if constrainsOtherNames(root) {
		warn("it constrains names of a kind that Go and OpenSSL treat differently: what one takes the other may refuse")
	}
	return warnings
}
