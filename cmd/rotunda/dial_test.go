package main

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Of a server whose certificate has run out nobody is told that it is another one.
func TestServersThatRanOutAreTold(t *testing.T) {
	where := endpoint{url: "https://rotunda.example:7444", credentials: "credentials"}
	for reason, want := range map[x509.InvalidReason]string{x509.Expired: "look at this machine's clock", x509.NotAuthorizedToSign: "ca.pem in credentials"} {
		err := unreachable(where, &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: reason}})
		if fault.CodeOf(err) != fault.Forbidden || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", reason, err)
		}
	}
}
