package pki

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Verify tells whether the chain proves its leaf to a party that trusts b, at
// now, for usage. It must pass crypto/x509 and also what OpenSSL insists on,
// because the servers and clients that will see it use either: each
// certificate followed by its issuer, names and key identifiers that link, no
// root, at most two intermediates, and the first matching anchor taken.
func (c Chain) Verify(b Bundle, usage x509.ExtKeyUsage, now time.Time) error {
	if c.Leaf == nil {
		return refuseChain("it has no leaf")
	}
	if err := c.checkShape(); err != nil {
		return err
	}
	path, err := c.pathTo(b)
	if err != nil {
		return err
	}
	if err := checkPath(path, usage, now); err != nil {
		return err
	}
	return checkByGo(path, usage, now)
}

// checkByGo asks crypto/x509, on this path alone: given more it would look for
// another way round a constraint that stops OpenSSL.
func checkByGo(path []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	last := len(path) - 1
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(path[last])
	for _, cert := range path[1:last] {
		between.AddCert(cert)
	}
	_, err := path[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "chain of %s refused", describe(path[0]))
	}
	return nil
}

// checkShape holds the rules that need neither anchors nor a clock, on every
// certificate that is sent, needed or not.
func (c Chain) checkShape() error {
	if n := len(c.Intermediates); n > MaxIntermediates {
		return refuseChain("%d certificates follow the leaf; at most %d may: the issuing authority and a bridge", n, MaxIntermediates)
	}
	if c.Leaf.IsCA {
		return refuseChain("the first certificate, %s, is a CA; it must be the leaf", describe(c.Leaf))
	}
	for _, cert := range c.Intermediates {
		if bytes.Equal(cert.RawSubject, cert.RawIssuer) {
			return refuseChain("%s is issued by its own name; a root must not be in a chain, it belongs into the bundle", describe(cert))
		}
	}
	certs := c.Certificates()
	for i, cert := range certs[1:] {
		if err := CheckLink(certs[i], cert); err != nil {
			return err
		}
	}
	return nil
}

// CheckLink tells whether issuer, as it stands, issued cert: names, key
// identifiers, the right to sign and the signature. Dates and what lies above
// are for Verify.
func CheckLink(cert, issuer *x509.Certificate) error {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return refuseChain("%s is issued by %q but %s stands behind it; each certificate must be followed by its issuer",
			describe(cert), cert.Issuer, describe(issuer))
	}
	if err := checkKeyIdentifier(cert, issuer); err != nil {
		return err
	}
	if !issuer.BasicConstraintsValid || !issuer.IsCA {
		return refuseChain("%s signed %s but is not a CA", describe(issuer), describe(cert))
	}
	if issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCertSign == 0 {
		return refuseChain("%s signed %s but its keyUsage lacks keyCertSign", describe(issuer), describe(cert))
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return fault.Wrap(fault.Invalid, err, "chain refused: the signature on %s is not by %s", describe(cert), describe(issuer))
	}
	return nil
}

// pathTo is the chain as far as it is needed, and its anchor behind it. Like
// OpenSSL it takes the first certificate whose issuer is an anchor, and does
// not look for another way when that one leads nowhere.
func (c Chain) pathTo(b Bundle) ([]*x509.Certificate, error) {
	certs := c.Certificates()
	var near error // why an anchor of the right name is not the issuer
	for i, cert := range certs {
		var issuers []*x509.Certificate
		for _, anchor := range b.anchors {
			if !bytes.Equal(anchor.RawSubject, cert.RawIssuer) {
				continue
			}
			if err := checkKeyIdentifier(cert, anchor); err != nil {
				near = err
				continue
			}
			issuers = append(issuers, anchor)
		}
		if len(issuers) > 1 {
			return nil, refuseChain("%d anchors are named %q and have the key identifier that %s asks for; OpenSSL would take either",
				len(issuers), issuers[0].Subject, describe(cert))
		}
		if len(issuers) == 1 {
			return append(slices.Clone(certs[:i+1]), issuers[0]), CheckLink(cert, issuers[0])
		}
	}
	if near != nil {
		return nil, near
	}
	last := certs[len(certs)-1]
	return nil, refuseChain("no anchor of the bundle %s is the issuer of %s, %q", short(b.Digest()), describe(last), last.Issuer)
}

// checkPath holds the rules on what is needed, anchor included.
func checkPath(path []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	for i, cert := range path {
		if now.Before(cert.NotBefore) {
			return refuseChain("%s is not valid before %s; now it is %s", describe(cert), stamp(cert.NotBefore), stamp(now))
		}
		if now.After(cert.NotAfter) {
			return refuseChain("%s expired at %s; now it is %s", describe(cert), stamp(cert.NotAfter), stamp(now))
		}
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < 2048 {
			return refuseChain("%s has an RSA key of %d bits; the least is 2048", describe(cert), key.N.BitLen())
		}
		// Below cert stand i certificates, one of them the leaf.
		if most := cert.MaxPathLen; i > 0 && cert.BasicConstraintsValid && (most > 0 || cert.MaxPathLenZero) && i-1 > most {
			return refuseChain("%s allows %d intermediates below it (pathLenConstraint); there are %d", describe(cert), most, i-1)
		}
	}
	leaf := path[0]
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return refuseChain("the keyUsage of %s lacks digitalSignature, which TLS handshakes need", describe(leaf))
	}
	for _, cert := range path {
		if !permitsUsage(cert, usage) {
			return refuseChain("%s is not for %s: its extended key usages leave that out", describe(cert), usageName(usage))
		}
	}
	return checkCommonNameConstraints(path)
}

func permitsUsage(cert *x509.Certificate, usage x509.ExtKeyUsage) bool {
	if usage == x509.ExtKeyUsageAny || len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(cert.ExtKeyUsage, usage) ||
		slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny)
}

func usageName(usage x509.ExtKeyUsage) string {
	switch usage {
	case x509.ExtKeyUsageServerAuth:
		return "serverAuth"
	case x509.ExtKeyUsageClientAuth:
		return "clientAuth"
	}
	return "this usage"
}

func refuseChain(format string, args ...any) error {
	return fault.New(fault.Invalid, "chain refused: "+format, args...)
}

// describe names a certificate for a reader: its subject, or its names where
// the subject is empty.
func describe(cert *x509.Certificate) string {
	if subject := cert.Subject.String(); subject != "" {
		return `"` + subject + `"`
	}
	if names := NamesOf(cert).Strings(); len(names) > 0 {
		return `"` + names[0] + `"`
	}
	return "certificate " + cert.SerialNumber.Text(16)
}

func short(d BundleDigest) string { return d.String()[:12] }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
