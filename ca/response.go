package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// CheckResponse tells whether a ceremony brought about what was requested, for
// our key, and so that leaves under it will be taken. What passes may be
// recorded. It trusts nothing about where the response came from, but that a new
// root is the operator's: that is for who brings the file to say.
//
// A bridge that was asked for and is not there is no error.
func CheckResponse(now time.Time, request CeremonyRequest, response CeremonyResponse, key crypto.Signer) error {
	if err := request.check(); err != nil {
		return err
	}
	digest, err := request.Digest()
	if err != nil {
		return err
	}
	switch {
	case response.Request != digest:
		return fault.New(fault.Conflict, "the response answers the request %s, not %s", response.Request, digest).
			WithRemedy("take the newest request to the ceremony")
	case response.Root == nil || response.Issuing == nil:
		return fault.New(fault.Invalid, "the response must have a root and an issuing authority")
	case !sameKey(key.Public(), request.CSR.PublicKey):
		return fault.New(fault.Conflict, "the issuing key here is not the one that the request was made for")
	case !pki.KeyMatches(key, response.Issuing):
		return fault.New(fault.Invalid, "the issuing authority %q is for another key than was requested", response.Issuing.Subject)
	case pki.KeyMatches(key, response.Root):
		return fault.New(fault.Invalid, "the root %q has the issuing authority's key", response.Root.Subject)
	case len(response.RootCRL) > 0 && request.NewRoot == nil:
		return fault.New(fault.Invalid, "the response has a CRL of a root that it did not make").
			WithRemedy("hand in a CRL by itself: rotunda authority crl")
	case response.Bridge != nil && request.Bridge == nil:
		return fault.New(fault.Invalid, "the response has a bridge that was not asked for")
	}
	if err := request.checkRoot(response.Root); err != nil {
		return err
	}
	if err := request.checkIssuing(response.Root, response.Issuing); err != nil {
		return fault.Wrap(fault.Invalid, err, "the issuing authority %q is not as requested", response.Issuing.Subject)
	}
	if len(response.RootCRL) > 0 {
		if list, err := CheckRootCRL(now, response.Root, response.RootCRL); err != nil {
			return err
		} else if len(list.RevokedCertificateEntries) > 0 {
			return fault.New(fault.Invalid, "CRL of root %q: a new root can't have revoked anything", response.Root.Subject)
		}
	}
	if response.Bridge != nil {
		if err := request.checkMadeBridge(now, response); err != nil {
			return fault.Wrap(fault.Invalid, err, "the bridge is not as requested")
		}
	}
	return request.tryOut(now, response, key)
}

// checkIssuing compares what was made with what was asked for.
func (r CeremonyRequest) checkIssuing(root, issuing *x509.Certificate) error {
	if err := pki.CheckLink(issuing, root); err != nil {
		return err
	}
	key, err := encodeKey(issuing.PublicKey)
	if err != nil {
		return err
	}
	name := authorityName(r.Issuing.TrustDomain, r.Issuing.Name)
	switch {
	case !isNamed(issuing, name):
		return fault.New(fault.Invalid, "its name must be %q", name)
	case !issuing.MaxPathLenZero || issuing.MaxPathLen != 0:
		return fault.New(fault.Invalid, "its path length must be 0")
	case issuing.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign:
		return fault.New(fault.Invalid, "its keyUsage must be keyCertSign and cRLSign")
	case len(issuing.ExtKeyUsage)+len(issuing.UnknownExtKeyUsage) > 0:
		return fault.New(fault.Invalid, "it must have no extended key usages")
	case !bytes.Equal(issuing.SubjectKeyId, key.id):
		return fault.New(fault.Invalid, "its subject key identifier must be %x (RFC 7093, method 1)", key.id)
	case !bytes.Equal(issuing.AuthorityKeyId, root.SubjectKeyId):
		return fault.New(fault.Invalid, "its authority key identifier must be %x, its root's", root.SubjectKeyId)
	case livesLonger(issuing, r.Issuing.Lifetime):
		return fault.New(fault.Invalid, "it is valid from %s to %s, which is more than %s", stamp(issuing.NotBefore), stamp(issuing.NotAfter), r.Issuing.Lifetime)
	case issuing.NotAfter.After(root.NotAfter):
		return fault.New(fault.Invalid, "it ends at %s, after its root", stamp(issuing.NotAfter))
	}
	if err := r.checkConstraints(root, issuing); err != nil {
		return err
	}
	return r.checkAddresses(issuing, r.Issuing.ParentID)
}

// checkConstraints wants the name constraints that were asked for, no more and
// no less, and a root whose own lose none of those names.
func (r CeremonyRequest) checkConstraints(root, issuing *x509.Certificate) error {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "the request"}}
	if err := constrain(template, r.Issuing); err != nil {
		return err
	}
	made, asked := constraintsOf(issuing), constraintsOf(template)
	if err := asked.contain(made); err != nil {
		return err
	}
	if err := made.contain(asked); err != nil {
		return err
	}
	for _, cert := range []*x509.Certificate{root, issuing} {
		if constrainsOtherNames(cert) {
			return fault.New(fault.Invalid, "%q constrains names of a kind that was not asked for", cert.Subject)
		}
	}
	return constraintsOf(root).contain(made)
}

// checkAddresses wants those of the CRL and the parent that were asked for.
func (r CeremonyRequest) checkAddresses(cert *x509.Certificate, parentID string) error {
	want := &x509.Certificate{SerialNumber: cert.SerialNumber}
	if parentID != "" {
		if err := addAddresses(want, parentID, r.PublicURL); err != nil {
			return err
		}
	}
	if !slices.Equal(cert.CRLDistributionPoints, want.CRLDistributionPoints) || !slices.Equal(cert.IssuingCertificateURL, want.IssuingCertificateURL) {
		return fault.New(fault.Invalid, "it names its CRL at %v and its issuer at %v; it must be %v and %v",
			cert.CRLDistributionPoints, cert.IssuingCertificateURL, want.CRLDistributionPoints, want.IssuingCertificateURL)
	}
	return nil
}

func (r CeremonyRequest) checkMadeBridge(now time.Time, response CeremonyResponse) error {
	bridge, old, root := response.Bridge, r.Bridge.Old, response.Root
	if err := CheckBridge(now, old, root, response.Issuing); err != nil {
		return err
	}
	if err := pki.CheckLink(bridge, old); err != nil {
		return err
	}
	switch {
	case !bytes.Equal(bridge.RawSubject, root.RawSubject) || !sameKey(bridge.PublicKey, root.PublicKey) || !bytes.Equal(bridge.SubjectKeyId, root.SubjectKeyId):
		return fault.New(fault.Invalid, "its subject, key and subject key identifier must be those of the root %q", root.Subject)
	case !bytes.Equal(bridge.AuthorityKeyId, old.SubjectKeyId):
		return fault.New(fault.Invalid, "its authority key identifier must be %x, the old root's", old.SubjectKeyId)
	case bridge.NotAfter.After(old.NotAfter) || bridge.NotAfter.After(root.NotAfter):
		return fault.New(fault.Invalid, "it ends at %s, after one of its roots", stamp(bridge.NotAfter))
	case !forTLS(bridge) || constrainsOtherNames(bridge):
		return fault.New(fault.Invalid, "it limits usages or names beyond what its roots do")
	}
	if err := constraintsOf(bridge).contain(constraintsOf(response.Issuing)); err != nil {
		return err
	}
	return r.checkAddresses(bridge, r.Bridge.OldID)
}

// tryOut signs a leaf of a minute, for a key that is forgotten at once, and
// holds the chains that will be served against the anchors that will be trusted.
// The leaf never leaves this function, so it needs no record.
func (r CeremonyRequest) tryOut(now time.Time, response CeremonyResponse, key crypto.Signer) error {
	chain := []*x509.Certificate{response.Issuing}
	anchors := []*x509.Certificate{response.Root}
	if response.Bridge != nil {
		chain, anchors = append(chain, response.Bridge), append(anchors, r.Bridge.Old)
	}
	authority, err := NewAuthority("ceremony", response.Issuing, chain, key, r.PublicURL)
	if err != nil {
		return err
	}
	leafKey, err := pki.ECDSAP256.Generate()
	if err != nil {
		return err
	}
	id, err := pki.CanaryID(r.Issuing.TrustDomain, "ceremony")
	if err != nil {
		return err
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	prepared, err := authority.Prepare(now, Request{leafKey.Public(), pki.Names{URI: id.String()}, Terms{Lifetime: time.Minute, Usages: usages}})
	if err != nil {
		return err
	}
	issued, err := authority.Issue(prepared)
	if err != nil {
		return err
	}
	served, err := pki.ParseChainDER(issued.Chain)
	if err != nil {
		return err
	}
	for _, anchor := range anchors {
		bundle, err := pki.NewBundle([]*x509.Certificate{anchor})
		if err != nil {
			return err
		}
		for _, usage := range usages {
			if err := served.Verify(bundle, usage, now); err != nil {
				return fault.Wrap(fault.Invalid, err, "a leaf under the issuing authority would not be taken by who trusts %q", anchor.Subject)
			}
		}
	}
	return nil
}

// livesLonger tells whether cert is valid for more than what was ordered.
func livesLonger(cert *x509.Certificate, lifetime time.Duration) bool {
	return cert.NotAfter.Sub(cert.NotBefore) > lifetime+authorityBackdate+time.Second // a second for rounding
}

func isNamed(cert *x509.Certificate, name pkix.Name) bool {
	der, err := asn1.Marshal(name.ToRDNSequence())
	return err == nil && bytes.Equal(der, cert.RawSubject)
}
