package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// reference is what crypto/x509 makes of the request, with the serial that this
// package took.
func reference(t testing.TB, a *Authority, r Request, issued Issued, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := encodeKey(r.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: issued.Serial.Big(), Subject: pkix.Name{CommonName: r.Names.CommonName},
		NotBefore: issued.NotBefore, NotAfter: issued.NotAfter,
		KeyUsage: keyUsage(r.PublicKey, r.Terms.Usages), ExtKeyUsage: r.Terms.Usages, BasicConstraintsValid: true,
		SubjectKeyId: key.id, DNSNames: r.Names.DNS,
		OCSPServer: []string{a.OCSPURL()}, IssuingCertificateURL: []string{a.CertificateURL()},
		CRLDistributionPoints: []string{a.CRLURL(issued.Serial.Shard())},
	}
	for _, addr := range r.Names.IPs {
		template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
	}
	if r.Names.URI != "" {
		id, err := url.Parse(r.Names.URI)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{id}
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, r.PublicKey, a.signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// compare holds a certificate against the reference: all that is signed, and how.
func compare(t testing.TB, a *Authority, r Request, issued Issued, change func(*x509.Certificate)) {
	t.Helper()
	got, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		t.Fatalf("%v\n%x", err, issued.DER)
	}
	want := reference(t, a, r, issued, change)
	if !bytes.Equal(got.RawTBSCertificate, want.RawTBSCertificate) {
		t.Errorf("to be signed:\n%x\ncrypto/x509:\n%x", got.RawTBSCertificate, want.RawTBSCertificate)
	}
	if got.SignatureAlgorithm != want.SignatureAlgorithm {
		t.Errorf("signed by %s, crypto/x509 by %s", got.SignatureAlgorithm, want.SignatureAlgorithm)
	}
	if !strings.Contains(want.SignatureAlgorithm.String(), "ECDSA") && !bytes.Equal(issued.DER, want.Raw) {
		t.Error("the signature is another than that of crypto/x509")
	}
	if err := got.CheckSignatureFrom(a.Certificate); err != nil {
		t.Error(err)
	}
	if issued.SPKI != sha256.Sum256(want.RawSubjectPublicKeyInfo) || issued.Fingerprint != pki.FingerprintOf(issued.DER) {
		t.Error("the hash of the key or of the certificate is wrong")
	}
}

func unconstrained(o *IssuingOrder) { o.PermittedDNS, o.PermittedIPs = nil, nil }

// long is an authority with an end after 2049, when dates are written otherwise.
func long(o *IssuingOrder) { o.Lifetime = 40 * 365 * 24 * time.Hour }

// Each kind of key on both sides, each usage, each kind of name, dates on both
// sides of 2050.
func TestEncodesAsTheStandardLibrary(t *testing.T) {
	const id = "spiffe://prod.example.org/db"
	who := map[string]pki.Names{
		"DNS":                  names(t, "", []string{"db.example.org"}, nil, ""),
		"wildcard":             names(t, "", []string{"*.example.org", "example.org"}, nil, ""),
		"IPv4":                 names(t, "", nil, []string{"127.0.0.1"}, ""),
		"IPv6":                 names(t, "", nil, []string{"fd00::1"}, ""),
		"IPv4 in IPv6":         {IPs: []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")}},
		"URI":                  names(t, "", nil, nil, id),
		"common name":          names(t, "db", nil, nil, ""),
		"not printable":        names(t, "a*b", nil, nil, ""),
		"ampersand":            names(t, "a&b", nil, nil, ""),
		"UTF-8":                names(t, "Büro 7", nil, nil, ""),
		"all punctuation":      names(t, "a '()+,-./:=?b", nil, nil, ""),
		"underscore":           names(t, "a_b@c", nil, nil, ""),
		"longest":              names(t, strings.Repeat("a", 64), nil, nil, ""),
		"everything":           names(t, "db", []string{"db.example.org", "localhost"}, []string{"127.0.0.1", "fd00::1"}, id),
		"more than 127 octets": names(t, "", many("db-%d.example.org", 9), nil, ""),
		"more than 64 KiB":     names(t, "", many("db-%d.example.org", 4000), nil, ""),
	}
	usages := map[string][]x509.ExtKeyUsage{"server": both[:1], "client": both[1:], "both": both, "both, turned": {both[1], both[0]}}
	keys := map[pki.KeyAlgorithm]crypto.Signer{}
	for _, algorithm := range pki.KeyAlgorithms() {
		keys[algorithm] = newKey(t, algorithm)
	}
	for _, issuing := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519, pki.RSA2048} {
		h := newHouse(t, pki.ECDSAP256, issuing, unconstrained, long)
		h.issuing.Certificate.NotAfter = now.Add(40 * 365 * 24 * time.Hour) // later than the root allows
		for algorithm, key := range keys {
			for usage, list := range usages {
				for kind, names := range who {
					t.Run(fmt.Sprintf("%s signs %s/%s/%s", issuing, algorithm, usage, kind), func(t *testing.T) {
						r := Request{key.Public(), names, Terms{Lifetime: 24 * time.Hour, Backdate: time.Minute, Usages: list}}
						issued, _ := issue(t, h.issuing, r)
						compare(t, h.issuing, r, issued, nil)
					})
				}
			}
		}
		for _, life := range []time.Duration{time.Second, time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC).Sub(now), time.Date(2050, 1, 1, 0, 0, 1, 0, time.UTC).Sub(now)} {
			r := Request{keys[pki.ECDSAP256].Public(), who["everything"], Terms{Lifetime: life, Backdate: 24 * time.Hour, Usages: both}}
			issued, _ := issue(t, h.issuing, r)
			compare(t, h.issuing, r, issued, nil)
		}
	}
}

func many(format string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(format, i)
	}
	return list
}

func TestEncodesRespondersAsTheStandardLibrary(t *testing.T) {
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519, pki.RSA2048} {
		h := newHouse(t, pki.ECDSAP256, algorithm)
		r := Request{newKey(t, algorithm).Public(), names(t, "OCSP responder of issuing", nil, nil, ""), Terms{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}}
		prepared, err := h.issuing.PrepareResponder(now, r.PublicKey, r.Names, 48*time.Hour, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		issued, err := h.issuing.Issue(prepared)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, h.issuing, r, issued, func(template *x509.Certificate) {
			template.OCSPServer, template.CRLDistributionPoints = nil, nil
			template.ExtraExtensions = []pkix.Extension{{Id: oidNoCheck, Value: asn1.NullBytes}}
		})
	}
}

// A leaf whose subject is its issuer's has no authority key identifier, as
// crypto/x509 has it.
func TestEncodesTheIssuersNameAsTheStandardLibrary(t *testing.T) {
	key, authority := newKey(t, pki.ECDSAP256), &x509.Certificate{
		SerialNumber: pki.Serial{15: 1}.Big(), Subject: pkix.Name{CommonName: "issuing"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3},
	}
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	der, err := x509.CreateCertificate(rand.Reader, authority, h.root, key.Public(), h.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAuthority("issuing", cert, []*x509.Certificate{cert}, key, publicURL)
	if err != nil {
		t.Fatal(err)
	}
	r := Request{newKey(t, pki.ECDSAP256).Public(), names(t, "issuing", nil, nil, ""), dayTerms}
	issued, _ := issue(t, a, r)
	compare(t, a, r, issued, nil)
}

func TestDoesNotEncodeNamesThatAreNotASCII(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256, unconstrained)
	key := newKey(t, pki.ECDSAP256).Public()
	for _, names := range []pki.Names{{DNS: []string{"bü.example.org"}}, {URI: "spiffe://prod.example.org/ü"}, {CommonName: "a\xff"}} {
		if _, err := h.issuing.Prepare(now, Request{key, names, dayTerms}); err == nil {
			t.Errorf("%q was laid out", names)
		}
	}
}

// FuzzCertificate holds the law that what is encoded is what crypto/x509 makes of
// the same names, dates, usages and keys.
func FuzzCertificate(f *testing.F) {
	f.Add("db", "db.example.org *.example.org", "127.0.0.1 fd00::1", "spiffe://prod.example.org/db", uint32(86400), uint16(60), uint32(0), byte(0), byte(0))
	f.Add("Büro*&", "", "", "", uint32(1), uint16(0), uint32(23*365*86400), byte(1), byte(1))
	f.Add("", "", "::ffff:10.0.0.1", "", uint32(1<<31), uint16(1<<15), uint32(1<<31), byte(2), byte(2))
	var authorities []*Authority
	var keys []crypto.Signer
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519, pki.RSA2048} {
		h := newHouse(f, pki.ECDSAP256, algorithm, unconstrained)
		h.issuing.Certificate.NotAfter = now.Add(200 * 365 * 24 * time.Hour)
		authorities, keys = append(authorities, h.issuing), append(keys, newKey(f, algorithm))
	}
	f.Fuzz(func(t *testing.T, cn, dns, ips, uri string, life uint32, backdate uint16, later uint32, usage, kinds byte) {
		names, err := pki.ParseNames(cn, strings.Fields(dns), strings.Fields(ips), uri)
		if err != nil {
			return
		}
		a, key := authorities[kinds%4], keys[kinds/4%4]
		r := Request{key.Public(), names, Terms{
			Lifetime: time.Duration(life) * time.Second, Backdate: time.Duration(backdate) * time.Second, Usages: [][]x509.ExtKeyUsage{both[:1], both[1:], both}[usage%3],
		}}
		prepared, err := a.Prepare(now.Add(time.Duration(later)*time.Second), r)
		if err != nil {
			return
		}
		issued, err := a.Issue(prepared)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, a, r, issued, nil)
	})
}
