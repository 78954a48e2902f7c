package control

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
)

// onCRL says whether the certificate is on the list of its shard.
func (d *domain) onCRL(cert *x509.Certificate) bool {
	d.t.Helper()
	serial, err := pki.SerialOf(cert)
	if err != nil {
		d.t.Fatal(err)
	}
	der, err := d.CRL(d.t.Context(), d.issuingNow().ID, int(serial.Shard()))
	if err != nil {
		d.t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, entry := range list.RevokedCertificateEntries {
		if entry.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

// enrolled is a new agent's id and certificate.
func (d *domain) enrolled() (string, *x509.Certificate) {
	d.t.Helper()
	id, secret := d.token(nil)
	_, request := csr(d.t)
	response, err := d.enrolWith(id, secret, request)
	if err != nil {
		d.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(response.Chain[0])
	if err != nil {
		d.t.Fatal(err)
	}
	return response.AgentId, cert
}

// A list is signed afresh when what stands on it changes, even where as many
// certificates stand on it as before.
func TestCRLFollowsEachRevocation(t *testing.T) {
	d := found(t)
	retire := func(id string) {
		if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: id}); err != nil {
			t.Fatal(err)
		}
	}
	shard := func(cert *x509.Certificate) byte {
		serial, err := pki.SerialOf(cert)
		if err != nil {
			t.Fatal(err)
		}
		return serial.Shard()
	}
	first, old := d.enrolled()
	retire(first)
	d.clock.turn(identityLife - time.Hour)
	second, young := d.enrolled()
	for shard(young) != shard(old) {
		second, young = d.enrolled()
	}
	if !d.onCRL(old) || d.onCRL(young) {
		t.Fatal("before: only the old one is revoked")
	}
	d.clock.turn(2 * time.Hour) // the old one expires
	retire(second)
	if d.onCRL(old) || !d.onCRL(young) {
		t.Error("as many on the list as before, and not those that are revoked now")
	}
}
