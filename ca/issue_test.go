package ca

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

func TestLeafIsWhatWasAsked(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	key := newKey(t, pki.ECDSAP256)
	asked := names(t, "", []string{"db.example.org", "*.db.example.org", "localhost"}, []string{"127.0.0.1", "fd00::1"}, "spiffe://prod.example.org/db")
	issued, cert := issue(t, h.issuing, Request{key.Public(), asked, dayTerms})

	if !pki.NamesOf(cert).Equal(asked) {
		t.Errorf("names %v, asked for %v", pki.NamesOf(cert), asked)
	}
	if !pki.KeyMatches(key, cert) {
		t.Error("another key is certified")
	}
	if want := now.Add(-time.Minute).Truncate(time.Second); !cert.NotBefore.Equal(want) || !issued.NotBefore.Equal(want) {
		t.Errorf("notBefore %s, want %s", cert.NotBefore, want)
	}
	if want := now.Add(24 * time.Hour).Truncate(time.Second); !cert.NotAfter.Equal(want) || !issued.NotAfter.Equal(want) {
		t.Errorf("notAfter %s, want %s", cert.NotAfter, want)
	}
	if !slices.Equal(cert.ExtKeyUsage, both) || cert.KeyUsage != x509.KeyUsageDigitalSignature || cert.IsCA || !cert.BasicConstraintsValid {
		t.Errorf("usages %v, key usage %b, CA %v", cert.ExtKeyUsage, cert.KeyUsage, cert.IsCA)
	}
	if len(cert.SubjectKeyId) != 20 || !bytes.Equal(cert.AuthorityKeyId, h.issuing.Certificate.SubjectKeyId) {
		t.Errorf("key identifiers %x, %x", cert.SubjectKeyId, cert.AuthorityKeyId)
	}
	serial, err := pki.SerialOf(cert)
	if err != nil || serial != issued.Serial || issued.Shard != int(serial.Shard()) || !serial.Time().Equal(now.Truncate(time.Millisecond)) {
		t.Errorf("serial %s, record %s shard %d, %v", serial, issued.Serial, issued.Shard, err)
	}
	if want := h.issuing.CRLURL(serial.Shard()); !slices.Equal(cert.CRLDistributionPoints, []string{want}) ||
		!strings.HasPrefix(want, publicURL+"/crl/issuing-1/") || !strings.HasSuffix(want, ".crl") {
		t.Errorf("CRL at %v, want %s", cert.CRLDistributionPoints, want)
	}
	if want := publicURL + "/ocsp/issuing-1"; !slices.Equal(cert.OCSPServer, []string{want}) {
		t.Errorf("OCSP at %v, want %s", cert.OCSPServer, want)
	}
	if want := publicURL + "/ca/issuing-1.crt"; !slices.Equal(cert.IssuingCertificateURL, []string{want}) {
		t.Errorf("issuer at %v, want %s", cert.IssuingCertificateURL, want)
	}
	spki, err := pki.SPKIHashOf(key.Public())
	if err != nil || issued.SPKI != spki || issued.Fingerprint != pki.FingerprintOf(cert.Raw) {
		t.Errorf("record's hashes are not the certificate's: %v", err)
	}
	if len(issued.Chain) != 2 || !bytes.Equal(issued.Chain[0], cert.Raw) || !bytes.Equal(issued.Chain[1], h.issuing.Certificate.Raw) {
		t.Error("the chain must be the leaf and the issuing authority")
	}
}

// RFC 5280, section 4.2.1.6: with an empty subject the alternative names must
// be critical, with one they should not be.
func TestAlternativeNamesAreCriticalWithoutSubject(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	for cn, critical := range map[string]bool{"": true, "db": false} {
		_, cert := issue(t, h.issuing, Request{newKey(t, pki.ECDSAP256).Public(), names(t, cn, []string{"db.example.org"}, nil, ""), dayTerms})
		for _, e := range cert.Extensions {
			if e.Id.String() == "2.5.29.17" && e.Critical != critical {
				t.Errorf("common name %q: critical is %v", cn, e.Critical)
			}
		}
	}
}

func TestKeyUsageFitsTheKey(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	sign, decrypt := x509.KeyUsageDigitalSignature, x509.KeyUsageKeyEncipherment
	server, client := both[:1], both[1:]
	for _, c := range []struct {
		algorithm pki.KeyAlgorithm
		usages    []x509.ExtKeyUsage
		want      x509.KeyUsage
	}{
		{pki.ECDSAP256, server, sign}, {pki.Ed25519, both, sign},
		{pki.RSA2048, server, sign | decrypt}, {pki.RSA2048, client, sign}, {pki.RSA2048, both, sign | decrypt},
	} {
		terms := Terms{Lifetime: time.Hour, Usages: c.usages}
		_, cert := issue(t, h.issuing, Request{newKey(t, c.algorithm).Public(), names(t, "db", nil, nil, ""), terms})
		if cert.KeyUsage != c.want {
			t.Errorf("%s %v: key usage %b, want %b", c.algorithm, c.usages, cert.KeyUsage, c.want)
		}
	}
}

// A Prepared is a licence for one signature, whoever holds it.
func TestPreparedIsSignedOnce(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	prepared, err := h.issuing.Prepare(now, Request{newKey(t, pki.ECDSAP256).Public(), names(t, "db", nil, nil, ""), dayTerms})
	if err != nil {
		t.Fatal(err)
	}
	other := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	if _, err := other.issuing.Issue(prepared); err == nil {
		t.Error("another authority signed it")
	}
	var signed sync.Map
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			if issued, err := h.issuing.Issue(prepared); err == nil {
				signed.Store(i, issued.Serial)
			} else if fault.CodeOf(err) != fault.Internal {
				t.Errorf("refused with %v", err)
			}
		})
	}
	all.Wait()
	count := 0
	signed.Range(func(any, any) bool { count++; return true })
	if count != 1 {
		t.Errorf("signed %d times", count)
	}
	for _, foreign := range []*Prepared{nil, {}} {
		if _, err := h.issuing.Issue(foreign); err == nil {
			t.Error("signed what nobody prepared")
		}
	}
}

// The caller's slices are not the certificate's: changing them after Prepare
// changes nothing.
func TestPreparedIsACopy(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	r := Request{newKey(t, pki.ECDSAP256).Public(), names(t, "", []string{"db.example.org"}, nil, ""), Terms{Lifetime: time.Hour, Usages: slices.Clone(both[:1])}}
	prepared, err := h.issuing.Prepare(now, r)
	if err != nil {
		t.Fatal(err)
	}
	r.Names.DNS[0], r.Terms.Usages[0] = "evil.test", x509.ExtKeyUsageAny
	issued, err := h.issuing.Issue(prepared)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(issued.DER)
	if err != nil || cert.DNSNames[0] != "db.example.org" || cert.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("certificate for %v %v, %v", cert.DNSNames, cert.ExtKeyUsage, err)
	}
}

// Each algorithm of root, issuing authority and leaf must be taken by Go and
// by OpenSSL in its strict mood.
func TestEveryAlgorithmVerifies(t *testing.T) {
	for _, algorithm := range pki.KeyAlgorithms() {
		issuing := algorithm
		if algorithm == pki.RSA3072 || algorithm == pki.RSA4096 {
			issuing = pki.RSA2048 // one large key is slow enough to make
		}
		h := newHouse(t, algorithm, issuing)
		for _, leaf := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519, pki.RSA2048} {
			issued, _ := issue(t, h.issuing, Request{newKey(t, leaf).Public(), names(t, "", []string{"db.example.org"}, []string{"127.0.0.1"}, "spiffe://prod.example.org/db"), dayTerms})
			chain, err := pki.ParseChainDER(issued.Chain)
			if err != nil {
				t.Fatal(err)
			}
			for _, usage := range both {
				if err := chain.Verify(h.bundle(t), usage, now); err != nil {
					t.Errorf("%s under %s: %v", leaf, algorithm, err)
				}
			}
			if out, err := opensslVerify(t, h.root, issued.Chain, "-purpose", "sslserver", "-verify_hostname", "db.example.org"); err != nil {
				t.Errorf("openssl on %s under %s: %s", leaf, algorithm, out)
			}
		}
	}
}
