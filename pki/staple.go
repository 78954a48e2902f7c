package pki

import (
	"crypto/x509"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Staple is an OCSP response (RFC 6960) for one certificate, as a server staples
// it to its handshakes.
type Staple struct {
	DER         []byte
	From, Until time.Time
	serial      string
}

// ParseStaple reads a response. Who signed it is for Check to say.
func ParseStaple(der []byte) (Staple, error) {
	response, err := ocsp.ParseResponse(der, nil)
	if err != nil {
		return Staple{}, fault.Wrap(fault.Invalid, err, "OCSP response")
	}
	return Staple{DER: der, From: response.ThisUpdate, Until: response.NextUpdate, serial: response.SerialNumber.String()}, nil
}

// For says whether the response is for a certificate of this serial.
func (s Staple) For(leaf *x509.Certificate) bool { return s.serial == leaf.SerialNumber.String() }

// Check says whether the response is signed for the issuer, says that the
// certificate is good, and holds now.
func (s Staple) Check(leaf, issuer *x509.Certificate, now time.Time) error {
	response, err := ocsp.ParseResponseForCert(s.DER, leaf, issuer)
	switch {
	case err != nil:
		return fault.Wrap(fault.Invalid, err, "OCSP response for certificate %s", leaf.SerialNumber.Text(16))
	case !mayRespond(response.Certificate, issuer, now):
		return fault.New(fault.Invalid, "the OCSP response for certificate %s is signed by %q, which may not respond for its issuer", leaf.SerialNumber.Text(16), response.Certificate.Subject)
	case response.Status != ocsp.Good:
		return fault.New(fault.Invalid, "the OCSP response does not say that certificate %s is good (status %d)", leaf.SerialNumber.Text(16), response.Status)
	case response.NextUpdate.IsZero(), !now.Before(response.NextUpdate):
		return fault.New(fault.Invalid, "the OCSP response for certificate %s ended at %s", leaf.SerialNumber.Text(16), stamp(response.NextUpdate))
	case response.ThisUpdate.After(now.Add(listsAhead)):
		return fault.New(fault.Unavailable, "the OCSP response for certificate %s is dated %s; by this host's clock it is %s", leaf.SerialNumber.Text(16), stamp(response.ThisUpdate), stamp(now))
	}
	return nil
}

// mayRespond says whether the issuer lets the signer respond for it (RFC 6960,
// section 4.2.2.2): whose signature is under the signer's certificate is known by
// now. nil: the issuer itself signed.
func mayRespond(signer, issuer *x509.Certificate, now time.Time) bool {
	if signer == nil || signer.Equal(issuer) {
		return true
	}
	for _, usage := range signer.ExtKeyUsage {
		if usage == x509.ExtKeyUsageOCSPSigning {
			return !now.Before(signer.NotBefore) && now.Before(signer.NotAfter)
		}
	}
	return false
}
