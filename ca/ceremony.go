package ca

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// A ceremony is the signing of an issuing authority by a root whose key is not
// where the issuing authority's is: a request goes there, a response comes
// back, both as JSON, and each names the other by its digest.
const (
	requestKind  = "rotunda.authority.request/v1"
	responseKind = "rotunda.authority.response/v1"

	// maxCeremony bounds the text of both.
	maxCeremony = 256 << 10
)

// CeremonyRequest says what is to be signed. A request for a new root has
// RootName; one without is for the root that there is.
type CeremonyRequest struct {
	Kind        string   `json:"kind"`
	TrustDomain string   `json:"trustDomain"`
	PublicURL   string   `json:"publicURL"` // base of the addresses in certificates
	OldRoot     string   `json:"oldRoot"`   // PEM: the root that is trusted now
	OldRootID   string   `json:"oldRootID"` // in the store, as is RootID
	RootID      string   `json:"rootID"`    // of the root that signs: the new one's where there is to be one
	RootName    string   `json:"rootName,omitempty"`
	RootLife    string   `json:"rootLifetime,omitempty"`
	Algorithm   string   `json:"algorithm"` // of a new root's key
	Name        string   `json:"issuingName"`
	Lifetime    string   `json:"issuingLifetime"`
	DNS         []string `json:"permittedDNS,omitempty"`
	IPs         []string `json:"permittedIPs,omitempty"`
	CSR         string   `json:"csr"` // PEM: the issuing authority's key
}

// CeremonyResponse is what was signed.
type CeremonyResponse struct {
	Kind     string `json:"kind"`
	Request  string `json:"request"` // SHA-256 of the request as it was signed, hex
	Root     string `json:"root"`    // PEM: the root above Issuing
	Issuing  string `json:"issuing"` // PEM
	Bridge   string `json:"bridge,omitempty"`
	NoBridge string `json:"noBridge,omitempty"` // why there is none
}

// RequestIssuing makes the key of a new issuing authority and the request for
// its certificate. What the caller does not fill is: Kind, Name, Lifetime,
// names and CSR.
func RequestIssuing(order IssuingOrder, partial CeremonyRequest) (CeremonyRequest, crypto.Signer, error) {
	key, err := generate(order.Algorithm)
	if err != nil {
		return CeremonyRequest{}, nil, err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return CeremonyRequest{}, nil, err
	}
	r := partial
	r.Kind, r.TrustDomain, r.Name, r.Lifetime = requestKind, order.TrustDomain.Name(), order.Name, order.Lifetime.String()
	r.DNS, r.RootID, r.CSR = order.PermittedDNS, order.ParentID, hex.EncodeToString(csr)
	for _, prefix := range order.PermittedIPs {
		r.IPs = append(r.IPs, prefix.String())
	}
	_, err = r.order()
	return r, key, err
}

// order is the request, parsed.
func (r CeremonyRequest) order() (IssuingOrder, error) {
	domain, err := spiffeid.TrustDomainFromString(r.TrustDomain)
	if err != nil {
		return IssuingOrder{}, fault.Wrap(fault.Invalid, err, "the request's trust domain")
	}
	life, err := time.ParseDuration(r.Lifetime)
	if err != nil {
		return IssuingOrder{}, fault.Wrap(fault.Invalid, err, "the request's issuingLifetime")
	}
	order := IssuingOrder{ParentID: r.RootID, TrustDomain: domain, Name: r.Name, Lifetime: life, PermittedDNS: r.DNS}
	for _, text := range r.IPs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return IssuingOrder{}, fault.Wrap(fault.Invalid, err, "the request's permittedIPs")
		}
		order.PermittedIPs = append(order.PermittedIPs, prefix)
	}
	return order, nil
}

// Encode is the request as JSON, and the digest by which a response names it.
func (r CeremonyRequest) Encode() (text []byte, digest string, err error) {
	if text, err = json.MarshalIndent(r, "", "  "); err != nil {
		return nil, "", fault.Wrap(fault.Internal, err, "encode the request")
	}
	sum := sha256.Sum256(text)
	return text, hex.EncodeToString(sum[:]), nil
}

// Encode is the response as JSON.
func (r CeremonyResponse) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encode the response")
	}
	return text, nil
}

// ParseCeremonyRequest reads what Encode wrote.
func ParseCeremonyRequest(text []byte) (CeremonyRequest, error) {
	var r CeremonyRequest
	if err := parseCeremony(text, &r); err != nil {
		return r, fault.Wrap(fault.Invalid, err, "request").WithRemedy("it is the file that rotunda trust rotate --request wrote")
	}
	if r.Kind != requestKind {
		return r, fault.New(fault.Invalid, "request: kind %q, it must be %s", r.Kind, requestKind)
	}
	_, err := r.order()
	return r, err
}

// ParseCeremonyResponse reads a response.
func ParseCeremonyResponse(text []byte) (CeremonyResponse, error) {
	var r CeremonyResponse
	if err := parseCeremony(text, &r); err != nil {
		return r, fault.Wrap(fault.Invalid, err, "response").WithRemedy("it is the file that rotunda authority sign wrote")
	}
	if r.Kind != responseKind {
		return r, fault.New(fault.Invalid, "response: kind %q, it must be %s", r.Kind, responseKind)
	}
	return r, nil
}

func parseCeremony(text []byte, into any) error {
	if len(text) > maxCeremony {
		return fault.New(fault.Invalid, "%d bytes, at most %d may be", len(text), maxCeremony)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return fault.New(fault.Invalid, "something follows the JSON")
	}
	return nil
}

// Ceremony holds what signs: the root that is trusted now, and the key of a new
// one where there is to be one.
type Ceremony struct {
	Now        time.Time
	OldKey     crypto.Signer // nil: no bridge can be made
	NewRootKey crypto.Signer // of a new root
}

// Sign carries the request out.
func (c Ceremony) Sign(request CeremonyRequest) (CeremonyResponse, error) {
	order, err := request.order()
	if err != nil {
		return CeremonyResponse{}, err
	}
	_, digest, err := request.Encode()
	if err != nil {
		return CeremonyResponse{}, err
	}
	old, err := pki.ParseCertificatesPEM([]byte(request.OldRoot))
	if err != nil {
		return CeremonyResponse{}, fault.Wrap(fault.Invalid, err, "the request's old root")
	}
	root, key := old[0], c.OldKey
	if request.RootName != "" {
		if root, key, err = c.newRoot(request, order.TrustDomain); err != nil {
			return CeremonyResponse{}, err
		}
	}
	if key == nil {
		return CeremonyResponse{}, fault.New(fault.Invalid, "the root's key is needed to sign")
	}
	issuing, err := SignIssuing(c.Now, root, key, order, request)
	if err != nil {
		return CeremonyResponse{}, err
	}
	response := CeremonyResponse{
		Kind: responseKind, Request: digest,
		Root: string(pki.EncodeCertificatesPEM(root.Raw)), Issuing: string(pki.EncodeCertificatesPEM(issuing.Raw)),
	}
	if request.RootName == "" {
		return response, nil
	}
	bridge, err := c.bridge(request, old[0], root, issuing)
	if err != nil {
		response.NoBridge = err.Error()
		return response, nil
	}
	response.Bridge = string(pki.EncodeCertificatesPEM(bridge.Raw))
	return response, nil
}

func (c Ceremony) newRoot(request CeremonyRequest, domain spiffeid.TrustDomain) (*x509.Certificate, crypto.Signer, error) {
	life, err := time.ParseDuration(request.RootLife)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "the request's rootLifetime")
	}
	if c.NewRootKey == nil {
		return nil, nil, fault.New(fault.Invalid, "a key for the new root is needed")
	}
	return CreateRoot(c.Now, RootOrder{TrustDomain: domain, Name: request.RootName, Key: c.NewRootKey, Lifetime: life})
}

func (c Ceremony) bridge(request CeremonyRequest, old, root, issuing *x509.Certificate) (*x509.Certificate, error) {
	if c.OldKey == nil {
		return nil, fault.New(fault.Invalid, "the old root's key was not at hand")
	}
	if err := CheckBridge(c.Now, old, root, issuing); err != nil {
		return nil, err
	}
	return CreateBridge(c.Now, old, c.OldKey, root, request.PublicURL, request.OldRootID)
}

// SignIssuing certifies the key of a request's CSR as an issuing authority's.
func SignIssuing(now time.Time, root *x509.Certificate, rootKey crypto.Signer, order IssuingOrder, request CeremonyRequest) (*x509.Certificate, error) {
	der, err := hex.DecodeString(request.CSR)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the request's csr")
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		return nil, err
	}
	if pki.KeyMatches(rootKey, &x509.Certificate{PublicKey: csr.PublicKey}) {
		return nil, fault.New(fault.Invalid, "the issuing authority's key is the root's own")
	}
	return certifyIssuing(now, root, rootKey, csr.PublicKey, order, request.PublicURL)
}

// Check says whether the response answers the request and everybody who has to
// can rely on it: the issuing certificate is for the key, leads to the root by
// the rules of the strictest verifier, and is as it was asked for; so is the
// root, and so is the bridge, which may be nil.
func (r CeremonyResponse) Check(now time.Time, request CeremonyRequest, key crypto.Signer) (root, issuing, bridge *x509.Certificate, err error) {
	_, digest, err := request.Encode()
	if err != nil {
		return nil, nil, nil, err
	}
	if r.Request != digest {
		return nil, nil, nil, fault.New(fault.Conflict, "the response answers another request than the one that was prepared last").
			WithRemedy("sign that one, or prepare again: rotunda trust rotate --request FILE")
	}
	if root, err = oneCertificate("root", r.Root); err != nil {
		return nil, nil, nil, err
	}
	if issuing, err = oneCertificate("issuing", r.Issuing); err != nil {
		return nil, nil, nil, err
	}
	old, err := oneCertificate("oldRoot", request.OldRoot)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := r.checkEnds(now, request, old, root, issuing, key); err != nil {
		return nil, nil, nil, err
	}
	if r.Bridge == "" {
		return root, issuing, nil, nil
	}
	if bridge, err = oneCertificate("bridge", r.Bridge); err != nil {
		return nil, nil, nil, err
	}
	if err := CheckBridge(now, old, root, issuing); err != nil {
		return nil, nil, nil, err
	}
	if !bytes.Equal(bridge.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo) || !bytes.Equal(bridge.RawSubject, root.RawSubject) {
		return nil, nil, nil, fault.New(fault.Invalid, "the response's bridge certifies another root than its own")
	}
	if err := bridge.CheckSignatureFrom(old); err != nil {
		return nil, nil, nil, fault.Wrap(fault.Invalid, err, "the response's bridge is not signed by %q", old.Subject)
	}
	return root, issuing, bridge, nil
}

func (r CeremonyResponse) checkEnds(now time.Time, request CeremonyRequest, old, root, issuing *x509.Certificate, key crypto.Signer) error {
	if _, err := pki.NewBundle([]*x509.Certificate{root}); err != nil {
		return err
	}
	if (request.RootName == "") != root.Equal(old) {
		return fault.New(fault.Invalid, "the response's root %q is not the one that was asked for", root.Subject)
	}
	if request.RootName != "" {
		switch {
		case root.Subject.CommonName != request.RootName:
			return fault.New(fault.Invalid, "the response's root is named %q, %q was asked for", root.Subject.CommonName, request.RootName)
		case bytes.Equal(root.RawSubject, old.RawSubject), bytes.Equal(root.SubjectKeyId, old.SubjectKeyId):
			return fault.New(fault.Invalid, "the new root must differ from the old one in subject and key")
		case now.After(root.NotAfter), now.Before(root.NotBefore):
			return fault.New(fault.Invalid, "the response's root is not valid now: it is from %s to %s", stamp(root.NotBefore), stamp(root.NotAfter))
		}
	}
	order, err := request.order()
	if err != nil {
		return err
	}
	switch {
	case !pki.KeyMatches(key, issuing):
		return fault.New(fault.Invalid, "the response's issuing certificate is not for the key of the request")
	case !issuing.IsCA || !issuing.MaxPathLenZero || issuing.MaxPathLen != 0:
		return fault.New(fault.Invalid, "the response's issuing certificate must be a CA of path length 0")
	case issuing.Subject.CommonName != order.Name:
		return fault.New(fault.Invalid, "the response's issuing certificate is named %q, %q was asked for", issuing.Subject.CommonName, order.Name)
	case now.After(issuing.NotAfter), now.Before(issuing.NotBefore):
		return fault.New(fault.Invalid, "the response's issuing certificate is not valid now")
	}
	template := &x509.Certificate{}
	if err := constrain(template, order); err != nil {
		return err
	}
	if err := constraintsOf(template).contain(constraintsOf(issuing)); err != nil {
		return fault.Wrap(fault.Invalid, err, "the response's issuing certificate may sign more than was asked for")
	}
	if err := pki.CheckLink(issuing, root); err != nil {
		return fault.Wrap(fault.Invalid, err, "the response's issuing certificate")
	}
	if err := issuing.CheckSignatureFrom(root); err != nil {
		return fault.Wrap(fault.Invalid, err, "the response's issuing certificate is not signed by its root")
	}
	return nil
}

func oneCertificate(what, text string) (*x509.Certificate, error) {
	certificates, err := pki.ParseCertificatesPEM([]byte(text))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "%s", what)
	}
	if len(certificates) != 1 {
		return nil, fault.New(fault.Invalid, "%s: %d certificates, it must be one", what, len(certificates))
	}
	return certificates[0], nil
}
