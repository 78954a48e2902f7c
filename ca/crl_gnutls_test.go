package ca

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// GnuTLS verifies each kind of list, sees its number, and refuses it under
// another authority.
func TestGnuTLSVerifiesLists(t *testing.T) {
	if _, err := exec.LookPath("certtool"); err != nil {
		t.Fatal("certtool is not installed; run: make deps")
	}
	h, other := newHouse(t, pki.ECDSAP256, pki.ECDSAP256), newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	issued, _ := issue(t, h.issuing, Request{newKey(t, pki.ECDSAP256).Public(), names(t, "db", nil, nil, ""), dayTerms})
	dir := t.TempDir()
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certtool := func(args ...string) (string, error) {
		command := exec.Command("certtool", args...)
		command.Dir = dir
		out, err := command.CombinedOutput()
		return string(out), err
	}
	write("ca.pem", pki.EncodeCertificatesPEM(h.issuing.Certificate.Raw))
	write("other.pem", pki.EncodeCertificatesPEM(other.issuing.Certificate.Raw))
	today := time.Now()
	for _, shard := range []int{issued.Shard, WholeList} {
		signed, err := h.issuing.SignCRL(shard, CRLTerms{77, today, today.Add(time.Hour)}, wholeIf(shard, listing(t, Revocation{issued.Serial, today, "keyCompromise", issued.NotAfter})))
		if err != nil {
			t.Fatal(err)
		}
		write("crl.pem", pki.EncodeCRLPEM(signed.DER()))
		if out, err := certtool("--verify-crl", "--load-ca-certificate", "ca.pem", "--infile", "crl.pem"); err != nil || !strings.Contains(out, "Verified") {
			t.Errorf("shard %d: %v %s", shard, err, out)
		}
		if out, err := certtool("--crl-info", "--infile", "crl.pem"); err != nil || !strings.Contains(out, issued.Serial.String()) {
			t.Errorf("shard %d: %v %s", shard, err, out)
		}
		if out, _ := certtool("--verify-crl", "--load-ca-certificate", "other.pem", "--infile", "crl.pem"); !strings.Contains(out, "Not verified") {
			t.Errorf("shard %d under another authority: %s", shard, out)
		}
	}
}
