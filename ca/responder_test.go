package ca

import (
	"bytes"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// A responder's certificate is good for signing answers and nothing else, and is
// not to be checked (RFC 6960, section 4.2.2.2).
func TestResponderCertificate(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	key, who := newKey(t, pki.ECDSAP256), names(t, "OCSP responder of issuing", nil, nil, "")
	prepared, err := h.issuing.PrepareResponder(now, key.Public(), who, 48*time.Hour, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := h.issuing.Issue(prepared)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) || cert.KeyUsage != x509.KeyUsageDigitalSignature || cert.IsCA {
		t.Errorf("usages %v, key usage %b, CA %v", cert.ExtKeyUsage, cert.KeyUsage, cert.IsCA)
	}
	if len(cert.CRLDistributionPoints)+len(cert.OCSPServer) != 0 || cert.Subject.CommonName != who.CommonName {
		t.Errorf("addresses %v %v, subject %q", cert.CRLDistributionPoints, cert.OCSPServer, cert.Subject)
	}
	nocheck := false
	for _, extension := range cert.Extensions {
		nocheck = nocheck || extension.Id.Equal(oidNoCheck) && bytes.Equal(extension.Value, []byte{5, 0}) && !extension.Critical
	}
	if !nocheck {
		t.Error("it does not say that it is not to be checked")
	}
	if !cert.NotAfter.Equal(now.Add(48 * time.Hour).Truncate(time.Second)) {
		t.Errorf("it ends at %s", cert.NotAfter)
	}
	if _, err := h.issuing.PrepareResponder(now, h.issuing.Certificate.PublicKey, who, time.Hour, time.Minute); err == nil {
		t.Error("the authority's own key was taken")
	}
	if _, err := h.issuing.PrepareResponder(now, key.Public(), names(t, "", []string{"evil.test"}, nil, ""), time.Hour, time.Minute); err == nil {
		t.Error("a name outside of the constraints was taken")
	}
}
