package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

func crlPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// wholeIf are the entries for the whole list, where that is to be signed.
func wholeIf(shard int, entries *Entries) *Entries {
	if shard != WholeList {
		return entries
	}
	whole := NewEntries(WholeList)
	whole.Append(entries)
	return whole
}

func hourFrom(now time.Time, number int64) CRLTerms {
	return CRLTerms{number, now, now.Add(time.Hour)}
}

func listing(t *testing.T, revoked ...Revocation) *Entries {
	t.Helper()
	shard := WholeList
	if len(revoked) > 0 {
		shard = int(revoked[0].Serial.Shard())
	}
	entries := NewEntries(shard)
	for _, one := range revoked {
		if err := entries.Add(one); err != nil {
			t.Fatal(err)
		}
	}
	return entries
}

func TestCRLSaysWhatWasRevoked(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	issued, _ := issue(t, h.issuing, Request{newKey(t, pki.ECDSAP256).Public(), names(t, "db", nil, nil, ""), dayTerms})
	at := now.Add(-time.Minute)
	signed, err := h.issuing.SignCRL(issued.Shard, hourFrom(now, 7), listing(t, Revocation{issued.Serial, at, "keyCompromise", issued.NotAfter}))
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(signed.DER())
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(h.issuing.Certificate); err != nil {
		t.Error(err)
	}
	if list.Number.Int64() != 7 || !list.ThisUpdate.Equal(now.Truncate(time.Second)) || !list.NextUpdate.Equal(now.Add(time.Hour).Truncate(time.Second)) {
		t.Errorf("number %s, from %s to %s", list.Number, list.ThisUpdate, list.NextUpdate)
	}
	entry := list.RevokedCertificateEntries[0]
	if len(list.RevokedCertificateEntries) != 1 || entry.SerialNumber.Cmp(issued.Serial.Big()) != 0 ||
		!entry.RevocationTime.Equal(at.Truncate(time.Second)) || entry.ReasonCode != 1 {
		t.Errorf("entries %+v", list.RevokedCertificateEntries)
	}
	if !bytes.Equal(list.AuthorityKeyId, h.issuing.Certificate.SubjectKeyId) {
		t.Errorf("authority key identifier %x", list.AuthorityKeyId)
	}
}

// Lengths of one to four bytes: a list is put together around its entries, and
// other people's parser finds all of them.
func TestListsOfAllSizesParse(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	for _, n := range []int{0, 1, 2, 3, 5, 6, 1_500, 1_700, 420_000} {
		entries := NewEntries(WholeList)
		for i := range n {
			var serial pki.Serial
			binary.BigEndian.PutUint64(serial[:], 1<<40+uint64(i))
			if err := entries.Add(Revocation{serial, now, "superseded", now.Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		signed, err := h.issuing.SignCRL(WholeList, hourFrom(now, 1), entries)
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(signed.DER())
		if err != nil {
			t.Fatalf("%d entries: %v", n, err)
		}
		if err := list.CheckSignatureFrom(h.issuing.Certificate); err != nil || len(list.RevokedCertificateEntries) != n {
			t.Errorf("%d entries: %d parsed, %v", n, len(list.RevokedCertificateEntries), err)
		}
		if signed.Fingerprint() != pki.FingerprintOf(signed.DER()) {
			t.Errorf("%d entries: the fingerprint is another's", n)
		}
		if _, err := ReadEntries(WholeList, entries.DER(), entries.Ends()); err != nil {
			t.Errorf("%d entries: %v", n, err)
		}
	}
}

// The critical extension binds a list to its address, and OpenSSL shows it.
func TestCRLNamesItsShard(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	signed, err := h.issuing.SignCRL(5, hourFrom(now, 1), listing(t))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"crl.pem": crlPEM(signed.DER()), "ca.pem": pki.EncodeCertificatesPEM(h.issuing.Certificate.Raw)}
	out, err := openssl(t, files, "crl", "-in", "crl.pem", "-noout", "-text", "-CAfile", "ca.pem", "-verify")
	if err != nil {
		t.Fatal(out)
	}
	for _, want := range []string{"verify OK", "X509v3 Issuing Distribution Point: critical", "URI:" + publicURL + "/crl/issuing-1/5.crl", "CRL Number"} {
		if !strings.Contains(out, want) {
			t.Errorf("openssl does not show %q:\n%s", want, out)
		}
	}
}

// OpenSSL, told to check revocation, takes the list of the certificate's own
// shard and no other.
func TestOpenSSLObeysTheCRL(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	issued, _ := issue(t, h.issuing, Request{newKey(t, pki.ECDSAP256).Public(), names(t, "db", nil, nil, ""), dayTerms})
	other := (issued.Shard + 1) % Shards
	cases := []struct {
		name    string
		shard   int
		revoked []Revocation
		want    string // of OpenSSL's answer
		ok      bool
	}{
		{"not revoked", issued.Shard, nil, "OK", true},
		{"revoked", issued.Shard, []Revocation{{issued.Serial, now, "superseded", issued.NotAfter}}, "certificate revoked", false},
		{"another shard's list", other, nil, "different CRL scope", false},
		{"the whole list", WholeList, nil, "OK", true},
		{"revoked, by the whole list", WholeList, []Revocation{{issued.Serial, now, "superseded", issued.NotAfter}}, "certificate revoked", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			signed, err := h.issuing.SignCRL(c.shard, hourFrom(now, 1), wholeIf(c.shard, listing(t, c.revoked...)))
			if err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{
				"root.pem": pki.EncodeCertificatesPEM(h.root.Raw), "leaf.pem": pki.EncodeCertificatesPEM(issued.DER),
				"ca.pem": pki.EncodeCertificatesPEM(h.issuing.Certificate.Raw), "crl.pem": crlPEM(signed.DER()),
			}
			out, err := openssl(t, files, "verify", "-attime", attime(now), "-no-CApath", "-crl_check",
				"-CAfile", "root.pem", "-untrusted", "ca.pem", "-CRLfile", "crl.pem", "leaf.pem")
			if (err == nil) != c.ok || !strings.Contains(out, c.want) {
				t.Errorf("openssl says %s", out)
			}
		})
	}
}

func TestBadCRLsAreRefused(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	var serial pki.Serial
	serial[0], serial[15] = 1, 3+Shards // wraps to shard 3
	next := now.Add(time.Hour)
	cases := map[string]struct {
		shard   int
		number  int64
		next    time.Time
		revoked []Revocation
		rule    string
	}{
		"shard below":             {-2, 1, next, nil, "shards are 0 to 127"},
		"shard above":             {Shards, 1, next, nil, "shards are 0 to 127"},
		"no number":               {3, 0, next, nil, "must be positive"},
		"next is now":             {3, 1, now, nil, "must be after"},
		"next in the same second": {3, 1, now.Truncate(time.Second).Add(999 * time.Millisecond), nil, "must be after"},
		"serial of another shard": {4, 1, next, []Revocation{{serial, now, "", next}}, "entries of CRL shard 3"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := h.issuing.SignCRL(c.shard, CRLTerms{c.number, now, c.next}, listing(t, c.revoked...)); err == nil || !strings.Contains(err.Error(), c.rule) {
				t.Errorf("got %v, want a refusal with %q", err, c.rule)
			}
		})
	}
	if _, err := h.issuing.SignCRL(3, hourFrom(now, 1), listing(t, Revocation{serial, now, "no reason of ours", next})); err != nil {
		t.Errorf("the good one is refused: %v", err)
	}
}
