package ca

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/pki"
)

func TestRootHasNoPathLength(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	if !h.root.IsCA || h.root.MaxPathLen != -1 || h.root.MaxPathLenZero {
		t.Errorf("CA %v, path length %d: a bridge to this root needs the depth", h.root.IsCA, h.root.MaxPathLen)
	}
	if h.root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(h.root.SubjectKeyId) == 0 {
		t.Errorf("key usage %b, key identifier %x", h.root.KeyUsage, h.root.SubjectKeyId)
	}
	if h.root.Subject.CommonName != "root" || !slices.Equal(h.root.Subject.Organization, []string{"prod.example.org"}) {
		t.Errorf("subject %s", h.root.Subject)
	}
}

func TestIssuingAuthorityIsBound(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.Ed25519)
	cert := h.issuing.Certificate
	if !cert.IsCA || cert.MaxPathLen != 0 || !cert.MaxPathLenZero {
		t.Errorf("CA %v, path length %d", cert.IsCA, cert.MaxPathLen)
	}
	if !cert.PermittedDNSDomainsCritical || !slices.Equal(cert.PermittedDNSDomains, []string{"example.org", "localhost"}) ||
		len(cert.PermittedIPRanges) != 2 || !slices.Equal(cert.PermittedURIDomains, []string{"prod.example.org"}) {
		t.Errorf("constraints %v %v %v", cert.PermittedDNSDomains, cert.PermittedIPRanges, cert.PermittedURIDomains)
	}
	serial, err := pki.SerialOf(cert)
	if err != nil {
		t.Fatal(err)
	}
	if want := crlURL(publicURL, "root-1", serial.Shard()); !slices.Equal(cert.CRLDistributionPoints, []string{want}) {
		t.Errorf("CRL at %v, want %s", cert.CRLDistributionPoints, want)
	}
	if !slices.Equal(cert.IssuingCertificateURL, []string{publicURL + "/ca/root-1.crt"}) {
		t.Errorf("issuer at %v", cert.IssuingCertificateURL)
	}
	if alg, err := pki.AlgorithmOf(cert.PublicKey); alg != pki.Ed25519 || err != nil {
		t.Errorf("key %s, %v", alg, err)
	}
}

func TestIssuingAuthorityEndsWithItsRoot(t *testing.T) {
	root, key, err := CreateRoot(now, RootOrder{TrustDomain: domain, Name: "root", Lifetime: 100 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	order := IssuingOrder{TrustDomain: domain, Name: "issuing", Lifetime: 200 * time.Hour}
	cert, _, err := CreateIssuing(now, root, key, order, publicURL)
	if err != nil || !cert.NotAfter.Equal(root.NotAfter) {
		t.Errorf("not after %v, the root's is %v; %v", cert.NotAfter, root.NotAfter, err)
	}
	if len(cert.CRLDistributionPoints)+len(cert.IssuingCertificateURL) != 0 {
		t.Error("without a parent's ID there is no address to carry")
	}
	if _, _, err := CreateIssuing(now.Add(90*time.Hour), root, key, order, publicURL); err == nil {
		t.Error("an authority of a twentieth of its lifetime was made")
	}
}

func TestBadOrdersAreRefused(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	good := IssuingOrder{ParentID: "root-1", TrustDomain: domain, Name: "issuing", Lifetime: 48 * time.Hour}
	cases := map[string]struct {
		change func(*IssuingOrder)
		rule   string
	}{
		"no trust domain":     {func(o *IssuingOrder) { o.TrustDomain = spiffeid.TrustDomain{} }, "trust domain"},
		"no name":             {func(o *IssuingOrder) { o.Name = "" }, "name of the authority"},
		"long name":           {func(o *IssuingOrder) { o.Name = strings.Repeat("n", 65) }, "allows 64"},
		"short life":          {func(o *IssuingOrder) { o.Lifetime = time.Minute }, "too short"},
		"unknown algorithm":   {func(o *IssuingOrder) { o.Algorithm = "dsa" }, "unknown key algorithm"},
		"wildcard permitted":  {func(o *IssuingOrder) { o.PermittedDNS = []string{"*.example.org"} }, "permitted DNS name"},
		"address as DNS name": {func(o *IssuingOrder) { o.PermittedDNS = []string{"127.0.0.1"} }, "permitted DNS name"},
		"zero prefix":         {func(o *IssuingOrder) { o.PermittedIPs = []netip.Prefix{{}} }, "permitted IP range"},
		"mapped prefix":       {func(o *IssuingOrder) { o.PermittedIPs = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")} }, "permitted IP range"},
		"parent no path":      {func(o *IssuingOrder) { o.ParentID = "a/b" }, "authority ID"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			order := good
			c.change(&order)
			if _, _, err := CreateIssuing(now, h.root, h.rootKey, order, publicURL); err == nil || !strings.Contains(err.Error(), c.rule) {
				t.Errorf("got %v, want a refusal with %q", err, c.rule)
			}
		})
	}
	if _, _, err := CreateIssuing(now, h.root, newKey(t, pki.ECDSAP256), good, publicURL); err == nil {
		t.Error("signed by a key that is not the root's")
	}
	if _, _, err := CreateIssuing(now, h.root, h.rootKey, good, "ftp://example.org"); err == nil {
		t.Error("a public URL that is no web address was taken")
	}
	if _, _, err := CreateRoot(now, RootOrder{TrustDomain: domain, Name: "root", Lifetime: time.Second}); err == nil {
		t.Error("a root of a second was made")
	}
}

func TestAuthorityMustFitTogether(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	cert, key := h.issuing.Certificate, h.issuing.signer
	_, leaf := issue(t, h.issuing, Request{h.rootKey.Public(), names(t, "db", nil, nil, ""), dayTerms})
	one := []*x509.Certificate{cert}
	cases := map[string]struct {
		make func() (*Authority, error)
		rule string
	}{
		"another key":    {func() (*Authority, error) { return NewAuthority("i", cert, one, h.rootKey, publicURL) }, "not the one"},
		"a leaf":         {func() (*Authority, error) { return NewAuthority("i", leaf, one, h.rootKey, publicURL) }, "not a CA"},
		"no chain":       {func() (*Authority, error) { return NewAuthority("i", cert, nil, key, publicURL) }, "begin with its own"},
		"chain of other": {func() (*Authority, error) { return NewAuthority("i", cert, []*x509.Certificate{leaf}, key, publicURL) }, "begin with its own"},
		"long chain": {func() (*Authority, error) {
			return NewAuthority("i", cert, []*x509.Certificate{cert, cert, cert}, key, publicURL)
		}, "at most 2"},
		"root sent": {func() (*Authority, error) {
			return NewAuthority("r", h.root, []*x509.Certificate{h.root}, h.rootKey, publicURL)
		}, "never sent"},
		"no ID":          {func() (*Authority, error) { return NewAuthority("", cert, one, key, publicURL) }, "authority ID"},
		"ID with path":   {func() (*Authority, error) { return NewAuthority("../x", cert, one, key, publicURL) }, "authority ID"},
		"ID of dots":     {func() (*Authority, error) { return NewAuthority("..", cert, one, key, publicURL) }, "authority ID"},
		"no public URL":  {func() (*Authority, error) { return NewAuthority("i", cert, one, key, "") }, "public URL"},
		"URL with query": {func() (*Authority, error) { return NewAuthority("i", cert, one, key, "http://x/?a") }, "public URL"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := c.make(); err == nil || !strings.Contains(err.Error(), c.rule) {
				t.Errorf("got %v, want a refusal with %q", err, c.rule)
			}
		})
	}
}

func TestRootSignsNoLeaves(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	root, err := NewAuthority("root-1", h.root, nil, h.rootKey, publicURL+"/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.Prepare(now, Request{newKey(t, pki.ECDSAP256).Public(), names(t, "db", nil, nil, ""), dayTerms}); err == nil {
		t.Error("a root prepared a leaf")
	}
	if _, err := root.SignCRL(WholeList, hourFrom(now, 1), listing(t)); err != nil {
		t.Errorf("a root must sign CRLs: %v", err)
	}
	if got := root.CertificateURL(); got != publicURL+"/ca/root-1.crt" {
		t.Errorf("certificate at %s", got)
	}
}
