package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

func issuingOrder() IssuingOrder {
	return IssuingOrder{
		ParentID: "root-2", TrustDomain: domain, Name: "issuing 2", Lifetime: 365 * 24 * time.Hour,
		PermittedDNS: []string{"example.org"}, PermittedIPs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
}

func newRootOrder() CeremonyOrder {
	return CeremonyOrder{PublicURL: publicURL, Issuing: issuingOrder(), NewRoot: &NewRoot{Name: "root 2", Lifetime: 10 * 365 * 24 * time.Hour}}
}

// ceremony is a request, the key that stayed at home, and what the other side
// has.
type ceremony struct {
	request  CeremonyRequest
	key      crypto.Signer
	old      *x509.Certificate
	oldKey   crypto.Signer
	rootKey  crypto.Signer
	response CeremonyResponse
}

// hold goes through a whole ceremony; files carry request and response.
func hold(t testing.TB, order CeremonyOrder, rootKey crypto.Signer) ceremony {
	t.Helper()
	c := ceremony{rootKey: rootKey}
	if order.Bridge != nil {
		c.old, c.oldKey = rootWith(t, "old root")
		order.Bridge = &BridgeOrder{c.old, "root-0"}
	}
	var err error
	if c.request, c.key, err = RequestIssuing(order); err != nil {
		t.Fatal(err)
	}
	file, err := c.request.Encode()
	if err != nil {
		t.Fatal(err)
	}
	there, err := ParseCeremonyRequest(file)
	if err != nil {
		t.Fatal(err)
	}
	answer := CeremonyResponse{Root: there.Root}
	if answer.Request, err = there.Digest(); err != nil {
		t.Fatal(err)
	}
	if n := there.NewRoot; n != nil {
		answer.Root, c.rootKey, err = CreateRoot(now, RootOrder{TrustDomain: there.Issuing.TrustDomain, Name: n.Name, Algorithm: n.Algorithm, Lifetime: n.Lifetime})
		if err != nil {
			t.Fatal(err)
		}
	}
	if answer.Issuing, err = SignIssuing(now, answer.Root, c.rootKey, there); err != nil {
		t.Fatal(err)
	}
	if b := there.Bridge; b != nil {
		if answer.Bridge, err = CreateBridge(now, b.Old, c.oldKey, answer.Root, there.PublicURL, b.OldID); err != nil {
			t.Fatal(err)
		}
	}
	if file, err = answer.Encode(); err != nil {
		t.Fatal(err)
	}
	if c.response, err = ParseCeremonyResponse(file); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c ceremony) check() error { return CheckResponse(now, c.request, c.response, c.key) }

func TestCeremonies(t *testing.T) {
	root, rootKey := rootWith(t, "existing root")
	under := func(algorithm pki.KeyAlgorithm) CeremonyOrder {
		o := newRootOrder()
		o.NewRoot, o.Root, o.Issuing.Algorithm = nil, root, algorithm
		return o
	}
	bridged := newRootOrder()
	bridged.Bridge, bridged.NewRoot.Algorithm = &BridgeOrder{}, pki.ECDSAP384
	free := newRootOrder()
	free.Issuing.PermittedDNS, free.Issuing.PermittedIPs, free.Issuing.ParentID = nil, nil, ""
	for name, c := range map[string]ceremony{
		"new root": hold(t, newRootOrder(), nil), "bridge": hold(t, bridged, nil), "free names, no addresses": hold(t, free, nil),
		"existing root": hold(t, under(""), rootKey), "Ed25519": hold(t, under(pki.Ed25519), rootKey), "RSA": hold(t, under(pki.RSA2048), rootKey),
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.check(); err != nil {
				t.Fatal(err)
			}
			issuing := c.response.Issuing
			authority, err := NewAuthority("issuing-2", issuing, []*x509.Certificate{issuing}, c.key, publicURL)
			if err != nil {
				t.Fatal(err)
			}
			issued, _ := issue(t, authority, Request{newKey(t, pki.ECDSAP256).Public(), names(t, "", []string{"db.example.org"}, []string{"127.0.0.1"}, ""), dayTerms})
			if out, err := opensslVerify(t, c.response.Root, issued.Chain, "-purpose", "sslserver"); err != nil {
				t.Errorf("openssl: %s", out)
			}
			if c.response.Bridge == nil {
				return
			}
			if out, err := opensslVerify(t, c.old, append(issued.Chain, c.response.Bridge.Raw), "-purpose", "sslserver"); err != nil {
				t.Errorf("openssl by the bridge: %s", out)
			}
			c.response.Bridge = nil
			if err := c.check(); err != nil {
				t.Errorf("a ceremony without a bridge is good too: %v", err)
			}
		})
	}
}

func TestBadCeremonyOrders(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	for name, c := range map[string]struct {
		change func(*CeremonyOrder)
		rule   string
	}{
		"no public URL":   {func(o *CeremonyOrder) { o.PublicURL = "" }, "public URL"},
		"no trust domain": {func(o *CeremonyOrder) { o.Issuing.TrustDomain = spiffeid.TrustDomain{} }, "trust domain"},
		"short life":      {func(o *CeremonyOrder) { o.Issuing.Lifetime = time.Minute }, "too short"},
		"permitted name":  {func(o *CeremonyOrder) { o.Issuing.PermittedDNS = []string{"*.x"} }, "permitted DNS name"},
		"parent's ID":     {func(o *CeremonyOrder) { o.Issuing.ParentID = "a/b" }, "authority ID"},
		"algorithm":       {func(o *CeremonyOrder) { o.Issuing.Algorithm = "dsa" }, "unknown key algorithm"},
		"no root":         {func(o *CeremonyOrder) { o.NewRoot = nil }, "either"},
		"two roots":       {func(o *CeremonyOrder) { o.Root = h.root }, "either"},
		"new root's name": {func(o *CeremonyOrder) { o.NewRoot.Name = "" }, "name of the authority"},
		"one name":        {func(o *CeremonyOrder) { o.NewRoot.Name = o.Issuing.Name }, "name of its own"},
		"root's key":      {func(o *CeremonyOrder) { o.NewRoot.Algorithm = "dsa" }, "unknown key algorithm"},
		"root is none":    {func(o *CeremonyOrder) { o.NewRoot, o.Root = nil, h.issuing.Certificate }, "not self-signed"},
		"old is none":     {func(o *CeremonyOrder) { o.Bridge = &BridgeOrder{h.issuing.Certificate, ""} }, "not self-signed"},
		"no old root":     {func(o *CeremonyOrder) { o.Bridge = &BridgeOrder{} }, "old root's certificate"},
		"old root's ID":   {func(o *CeremonyOrder) { o.Bridge = &BridgeOrder{h.root, "a/b"} }, "authority ID"},
	} {
		t.Run(name, func(t *testing.T) {
			order := newRootOrder()
			c.change(&order)
			if _, _, err := RequestIssuing(order); err == nil || !strings.Contains(err.Error(), c.rule) {
				t.Errorf("got %v, want a refusal with %q", err, c.rule)
			}
		})
	}
}

func TestSignIssuingRefuses(t *testing.T) {
	good := hold(t, newRootOrder(), nil)
	other, otherKey := rootWith(t, "another root")
	flat, flatKey := rootWith(t, "flat", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	narrow, narrowKey := rootWith(t, "narrow", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.net"} })
	csrOf := func(key crypto.Signer) *x509.CertificateRequest {
		der, err := pki.NewCSR(key)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := pki.ParseCSR(der)
		if err != nil {
			t.Fatal(err)
		}
		return csr
	}
	forged := *csrOf(newKey(t, pki.ECDSAP256))
	forged.Raw = bytes.Clone(forged.Raw)
	forged.Raw[len(forged.Raw)-1] ^= 1
	swapped := *csrOf(newKey(t, pki.ECDSAP256))
	swapped.PublicKey = newKey(t, pki.ECDSAP256).Public()
	under := func(root *x509.Certificate) func(*CeremonyRequest) {
		return func(r *CeremonyRequest) { r.NewRoot, r.Root = nil, root }
	}
	for name, c := range map[string]struct {
		root   *x509.Certificate
		key    crypto.Signer
		change func(*CeremonyRequest)
		rule   string
	}{
		"another's key":       {good.response.Root, otherKey, func(*CeremonyRequest) {}, "not that of the root"},
		"another new root":    {other, otherKey, func(*CeremonyRequest) {}, "the new root is not as requested"},
		"another root":        {good.response.Root, good.rootKey, under(other), "the request is for the root"},
		"no CSR":              {good.response.Root, good.rootKey, func(r *CeremonyRequest) { r.CSR = nil }, "needs a certificate request"},
		"forged CSR":          {good.response.Root, good.rootKey, func(r *CeremonyRequest) { r.CSR = &forged }, "not signed by the key"},
		"swapped key":         {good.response.Root, good.rootKey, func(r *CeremonyRequest) { r.CSR = &swapped }, "changed after it was parsed"},
		"other algorithm":     {good.response.Root, good.rootKey, func(r *CeremonyRequest) { r.CSR = csrOf(newKey(t, pki.Ed25519)) }, "to be ecdsa-p256"},
		"the root's own key":  {other, otherKey, func(r *CeremonyRequest) { under(other)(r); r.CSR = csrOf(otherKey) }, "needs its own"},
		"root without depth":  {flat, flatKey, under(flat), "allows no authority below it"},
		"root's constraints":  {narrow, narrowKey, under(narrow), "lets through"},
		"an order gone wrong": {good.response.Root, good.rootKey, func(r *CeremonyRequest) { r.PublicURL = "" }, "public URL"},
	} {
		t.Run(name, func(t *testing.T) {
			request := good.request
			c.change(&request)
			if _, err := SignIssuing(now, c.root, c.key, request); err == nil || !strings.Contains(err.Error(), c.rule) {
				t.Errorf("got %v, want a refusal with %q", err, c.rule)
			}
		})
	}
}

// resign makes the issuing authority again, changed, by the ceremony's root.
func (c ceremony) resign(t testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	return resigned(t, c.response.Issuing, c.key.Public(), c.response.Root, c.rootKey, change)
}

func resigned(t testing.TB, cert *x509.Certificate, public crypto.PublicKey, parent *x509.Certificate, parentKey crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := *cert
	change(&template)
	again, err := signAuthority(&template, parent, public, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// unidentified is an issuer whose key identifier what it signs does not name.
func unidentified(issuer *x509.Certificate) *x509.Certificate {
	copied := *issuer
	copied.SubjectKeyId = nil
	return &copied
}

func noIssuerKeyID(c *x509.Certificate) { c.AuthorityKeyId = nil }

func TestBadResponses(t *testing.T) {
	order := newRootOrder()
	order.Bridge = &BridgeOrder{}
	good, plain := hold(t, order, nil), hold(t, newRootOrder(), nil)
	issuing := func(change func(*x509.Certificate)) func(*ceremony) {
		return func(c *ceremony) { c.response.Issuing = c.resign(t, change) }
	}
	root := func(change func(*x509.Certificate)) func(*ceremony) {
		return func(c *ceremony) {
			c.response.Root = resigned(t, c.response.Root, c.rootKey.Public(), c.response.Root, c.rootKey, change)
		}
	}
	bridge := func(change func(*x509.Certificate)) func(*ceremony) {
		return func(c *ceremony) {
			c.response.Bridge = resigned(t, c.response.Bridge, c.rootKey.Public(), c.old, c.oldKey, change)
		}
	}
	stranger, strangerKey := rootWith(t, "root 2")
	for name, c := range map[string]struct {
		change func(*ceremony)
		rule   string
	}{
		"another request":          {func(c *ceremony) { c.response.Request[0] ^= 1 }, "answers the request"},
		"changed request":          {func(c *ceremony) { c.request.Issuing.PermittedDNS = []string{"evil.test"} }, "answers the request"},
		"no root":                  {func(c *ceremony) { c.response.Root = nil }, "must have a root"},
		"no issuing":               {func(c *ceremony) { c.response.Issuing = nil }, "must have a root"},
		"another key here":         {func(c *ceremony) { c.key = newKey(t, pki.ECDSAP256) }, "not the one that the request was made for"},
		"another key there":        {func(c *ceremony) { c.response.Issuing = plain.response.Issuing }, "for another key"},
		"bridge unasked":           {func(c *ceremony) { b := c.response.Bridge; *c = plain; c.response.Bridge = b }, "not asked for"},
		"another root":             {func(c *ceremony) { c.response.Root = stranger }, "is not as requested"},
		"root not self-signed":     {func(c *ceremony) { c.response.Root = c.response.Bridge }, "not self-signed"},
		"root's name":              {func(c *ceremony) { c.response.Root, _ = rootWith(t, "x") }, "its name is"},
		"root's depth":             {root(func(c *x509.Certificate) { c.MaxPathLen = 1 }), "bridge of its successor"},
		"root's key usage":         {root(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), "its keyUsage must be"},
		"root's usage":             {root(func(c *x509.Certificate) { c.ExtKeyUsage = both[:1] }), "as requested: its extended key usages leave out"},
		"root's life":              {root(func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Hour) }), "which is more than"},
		"root's constraints":       {root(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.net"} }), "lets through"},
		"root's other constraints": {root(func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, directoryConstraint(t, "x")) }), "was not asked for"},
		"issuing by another": {func(c *ceremony) {
			c.response.Issuing = resigned(t, c.response.Issuing, c.key.Public(), stranger, strangerKey, func(*x509.Certificate) {})
		}, "key identifier must be equal"},
		"issuing's name":           {issuing(func(c *x509.Certificate) { c.RawSubject = nil; c.Subject.CommonName = "x" }), "its name must be"},
		"issuing's depth":          {issuing(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 1, false }), "path length must be 0"},
		"issuing without depth":    {issuing(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = -1, false }), "path length must be 0"},
		"issuing's key usage":      {issuing(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature }), "keyUsage must be"},
		"issuing's usage":          {issuing(func(c *x509.Certificate) { c.ExtKeyUsage = both }), "no extended key usages"},
		"issuing's key identifier": {issuing(func(c *x509.Certificate) { c.SubjectKeyId = []byte("odd") }), "subject key identifier must be"},
		"issuing's life":           {issuing(func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Hour) }), "which is more than"},
		"issuing names no issuer's key": {func(c *ceremony) {
			c.response.Issuing = resigned(t, c.response.Issuing, c.key.Public(), unidentified(c.response.Root), c.rootKey, noIssuerKeyID)
		}, "authority key identifier must be"},
		"issuing outlives its root": {root(func(c *x509.Certificate) { c.NotAfter = now.Add(24 * time.Hour) }), "after its root"},
		"bridge names no issuer's key": {func(c *ceremony) {
			c.response.Bridge = resigned(t, c.response.Bridge, c.rootKey.Public(), unidentified(c.old), c.oldKey, noIssuerKeyID)
		}, "authority key identifier must be"},
		"more names": {issuing(func(c *x509.Certificate) { c.PermittedDNSDomains = append(c.PermittedDNSDomains, "evil.test") }), "evil.test"},
		"fewer names": {issuing(func(c *x509.Certificate) {
			c.PermittedIPRanges = ranges([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/9")})
		}), "127.0.0.0/9"},
		"excluded names":       {issuing(func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"db.example.org"} }), "db.example.org"},
		"another trust domain": {issuing(func(c *x509.Certificate) { c.PermittedURIDomains = []string{"dev.example.org"} }), "dev.example.org"},
		"no CRL":               {issuing(func(c *x509.Certificate) { c.CRLDistributionPoints = nil }), "names its CRL"},
		"another's address":    {issuing(func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://evil.test/ca.crt"} }), "names its CRL"},
		"issuing of tomorrow":  {issuing(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), "not valid before"},
		"bridge by another": {func(c *ceremony) {
			c.response.Bridge = resigned(t, c.response.Bridge, c.rootKey.Public(), stranger, strangerKey, func(*x509.Certificate) {})
		}, "bridge is not as requested"},
		"bridge's subject": {bridge(func(c *x509.Certificate) { c.RawSubject = nil; c.Subject.CommonName = "x" }), "must be those of the root"},
		"bridge's key": {func(c *ceremony) {
			c.response.Bridge = resigned(t, c.response.Bridge, strangerKey.Public(), c.old, c.oldKey, func(*x509.Certificate) {})
		}, "must be those of the root"},
		"bridge's key identifier": {bridge(func(c *x509.Certificate) { c.SubjectKeyId = []byte("odd") }), "must be those of the root"},
		"bridge outlives":         {bridge(func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Hour) }), "after one of its roots"},
		"bridge's usage":          {bridge(func(c *x509.Certificate) { c.ExtKeyUsage = both[:1] }), "beyond what its roots do"},
		"bridge's names":          {bridge(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.net"} }), "lets through"},
		"bridge's depth":          {bridge(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), "pathLenConstraint"},
		"bridge's address":        {bridge(func(c *x509.Certificate) { c.CRLDistributionPoints = nil }), "names its CRL"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := good
			c.change(&changed)
			if err := changed.check(); err == nil || !strings.Contains(err.Error(), c.rule) {
				t.Errorf("got %v, want a refusal with %q", err, c.rule)
			}
		})
	}
	if err := good.check(); err != nil {
		t.Errorf("the good one is refused: %v", err)
	}
}

// The root's own key as the issuing key: then whoever breaks into the server
// has the root.
func TestResponseWithOneKeyForBoth(t *testing.T) {
	c := hold(t, newRootOrder(), nil)
	var err error
	n := c.request.NewRoot
	if c.response.Root, _, err = CreateRoot(now, RootOrder{TrustDomain: domain, Name: n.Name, Key: c.key, Lifetime: n.Lifetime}); err != nil {
		t.Fatal(err)
	}
	if err := c.check(); err == nil || !strings.Contains(err.Error(), "has the issuing authority's key") {
		t.Errorf("got %v", err)
	}
}

// White space may change on the way, nothing else.
func TestCeremonyFilesAreStrict(t *testing.T) {
	order := newRootOrder()
	order.Bridge = &BridgeOrder{}
	c := hold(t, order, nil)
	request, err := c.request.Encode()
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.response.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]func([]byte) error{
		"request":  func(data []byte) error { _, err := ParseCeremonyRequest(data); return err },
		"response": func(data []byte) error { _, err := ParseCeremonyResponse(data); return err },
	}
	for name, file := range map[string][]byte{"request": request, "response": response} {
		var compact bytes.Buffer
		if err := json.Compact(&compact, file); err != nil {
			t.Fatal(err)
		}
		if err := read[name](compact.Bytes()); err != nil {
			t.Errorf("%s in one line: %v", name, err)
		}
		text := compact.String()
		for what, bad := range map[string]string{
			"empty":         "",
			"null":          "null",
			"unknown field": strings.Replace(text, "{", `{"more":1,`, 1),
			"field twice":   strings.Replace(text, "{", `{"kind":"x",`, 1),
			"other case":    strings.Replace(text, `"kind"`, `"Kind"`, 1),
			"other version": strings.Replace(text, "/v1", "/v2", 1),
			"text behind":   text + "{}",
			"cut short":     text[:len(text)-1],
			"too long":      text + strings.Repeat(" ", MaxCeremony),
			"damaged PEM":   strings.Replace(text, "BEGIN CERT", "BEGIN DIRT", 1),
			"the other":     map[string]string{"request": string(response), "response": string(request)}[name],
		} {
			if err := read[name]([]byte(bad)); err == nil || fault.CodeOf(err) != fault.Invalid {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	// The strict comparison would catch it too, but not name the field.
	if err := read["request"]([]byte(strings.Replace(string(request), "{", `{"more":1,`, 1))); err == nil || !strings.Contains(err.Error(), `"more"`) {
		t.Errorf("an unknown field is not named: %v", err)
	}
	for what, bad := range map[string]string{
		"other form of a duration": strings.Replace(string(request), `"8760h0m0s"`, `"8760h"`, 1),
		"another algorithm":        strings.ReplaceAll(string(request), `"ecdsa-p256"`, `"rsa-2048"`),
	} {
		if bad == string(request) {
			t.Fatalf("%s: nothing was changed", what)
		}
		if _, err := ParseCeremonyRequest([]byte(bad)); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}
