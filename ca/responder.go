package ca

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/rotunda-pki/rotunda/pki"
)

// oidNoCheck is id-pkix-ocsp-nocheck (RFC 6960, section 4.2.2.2.1).
var oidNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// PrepareResponder lays out the certificate of an OCSP responder of this
// authority: for signing answers and nothing else. Nobody asks whether it was
// revoked, since whoever asked would be answered by it; so it has no CRL's
// address and says that it is not to be checked, and must be short-lived.
func (a *Authority) PrepareResponder(now time.Time, public crypto.PublicKey, names pki.Names, lifetime, backdate time.Duration) (*Prepared, error) {
	if err := a.checkKey(public); err != nil {
		return nil, err
	}
	if err := a.Permits(names); err != nil {
		return nil, err
	}
	return a.layOut(now, Request{public, names, Terms{
		Lifetime: lifetime, Backdate: backdate, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}}, a.certificateAccess, func(b *cryptobyte.Builder, _ pki.Serial) {
		addExtension(b, oidNoCheck, false, func(b *cryptobyte.Builder) { b.AddASN1NULL() })
	})
}
