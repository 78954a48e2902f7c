package control

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
)

// onCRL says whether the certificate is on the list of its shard.
func (d *domain) onCRL(cert *x509.Certificate) bool {
	d.t.Helper()
	return d.onCRLOf(d.issuingNow().ID, cert)
}

func (d *domain) onCRLOf(authority string, cert *x509.Certificate) bool {
	d.t.Helper()
	serial, err := pki.SerialOf(cert)
	if err != nil {
		d.t.Fatal(err)
	}
	crl, err := d.CRL(d.t.Context(), authority, int(serial.Shard()))
	if err != nil {
		d.t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(crl.DER())
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
	if !d.onCRL(old) {
		t.Error("what was revoked is not on the list")
	}
	d.clock.turn(2 * time.Hour) // it expires, and is listed once beyond that
	if !d.onCRL(old) {
		t.Error("what expired is on no list after its end")
	}
	d.clock.turn(fleet.CRLPeriod)
	if !d.onCRL(old) {
		t.Error("what expired is not on the next list")
	}
	d.clock.turn(fleet.CRLPeriod)
	second, young := d.enrolled()
	for shard(young) != shard(old) {
		second, young = d.enrolled()
	}
	if d.onCRL(young) {
		t.Error("on the list and not revoked")
	}
	retire(second)
	if d.onCRL(old) || !d.onCRL(young) {
		t.Error("as many on the list as before, and not those that are revoked now")
	}
}
