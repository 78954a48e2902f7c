package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// shortestBridge is the least that a bridge must have before it; a shorter one
// would end before anybody has fetched it.
const shortestBridge = time.Hour

// A chain of leaf, issuing authority and bridge has two authorities below the
// old root, and one below the new.
const (
	belowOld  = 2
	belowNext = 1
)

// CreateBridge certifies the new root, next, by the old one: its subject, key
// and key identifier are next's, and it ends with the first of the two. Who
// trusts old alone then takes leaves under next, if they bring the bridge along.
//
// OldID is the ID of old in the store, for the addresses that the bridge
// carries; with an empty one it carries none. Where there can be no bridge the
// error is CheckBridge's.
func CreateBridge(now time.Time, old *x509.Certificate, oldKey crypto.Signer, next *x509.Certificate, publicURL, oldID string) (*x509.Certificate, error) {
	if err := CheckBridge(now, old, next, nil); err != nil {
		return nil, err
	}
	if !pki.KeyMatches(oldKey, old) {
		return nil, fault.New(fault.Invalid, "the key is not that of the root %q", old.Subject)
	}
	serial, err := pki.NewSerial(now, rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial.Big(), RawSubject: next.RawSubject, Subject: next.Subject, SubjectKeyId: next.SubjectKeyId,
		NotBefore: now.Add(-authorityBackdate).UTC().Truncate(time.Second), NotAfter: next.NotAfter,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	for _, root := range []*x509.Certificate{old, next} {
		if root.NotBefore.After(template.NotBefore) {
			template.NotBefore = root.NotBefore
		}
	}
	if old.NotAfter.Before(template.NotAfter) {
		template.NotAfter = old.NotAfter
	}
	limitBridge(template, old, next)
	if oldID != "" {
		if err := addAddresses(template, oldID, publicURL); err != nil {
			return nil, err
		}
	}
	return signAuthority(template, old, next.PublicKey, oldKey)
}

// limitBridge keeps the bridge from allowing more than either root does. The
// old root's name constraints bind whoever comes through it anyway.
func limitBridge(bridge, old, next *x509.Certificate) {
	bridge.MaxPathLen = -1
	if n, limited := pathLength(next); limited {
		bridge.MaxPathLen = n
	}
	if n, limited := pathLength(old); limited && (bridge.MaxPathLen < 0 || n-1 < bridge.MaxPathLen) {
		bridge.MaxPathLen = n - 1
	}
	bridge.ExtKeyUsage, bridge.UnknownExtKeyUsage = next.ExtKeyUsage, next.UnknownExtKeyUsage
	bridge.PermittedDNSDomainsCritical = next.PermittedDNSDomainsCritical
	bridge.PermittedDNSDomains, bridge.ExcludedDNSDomains = next.PermittedDNSDomains, next.ExcludedDNSDomains
	bridge.PermittedIPRanges, bridge.ExcludedIPRanges = next.PermittedIPRanges, next.ExcludedIPRanges
	bridge.PermittedURIDomains, bridge.ExcludedURIDomains = next.PermittedURIDomains, next.ExcludedURIDomains
	bridge.PermittedEmailAddresses, bridge.ExcludedEmailAddresses = next.PermittedEmailAddresses, next.ExcludedEmailAddresses
}

// pathLength is how many authorities may stand below cert, if it says so.
func pathLength(cert *x509.Certificate) (n int, limited bool) {
	if cert.BasicConstraintsValid && (cert.MaxPathLen > 0 || cert.MaxPathLenZero) {
		return cert.MaxPathLen, true
	}
	return 0, false
}

// CheckBridge tells why the root old can't vouch for the root next and the
// issuing authority under it, so that both Go and OpenSSL take it. That there is
// no bridge is a normal outcome: the trust change then waits for every relying
// party to hold next itself. A nil issuing leaves its names aside.
func CheckBridge(now time.Time, old, next, issuing *x509.Certificate) error {
	checks := []func() error{
		func() error { return checkBridgeRoots(old, next) },
		func() error { return checkBridgeDates(now, old, next) },
		func() error { return checkBridgeDepth(old, next) },
		func() error { return checkBridgeUse(old, next) },
	}
	if issuing != nil {
		checks = append(checks, func() error { return checkBridgeNames(old, next, issuing) })
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return fault.Wrap(fault.Invalid, err, "no bridge from %q to %q", old.Subject, next.Subject)
		}
	}
	return nil
}

// withoutBridge is what to do where there is none.
const withoutBridge = "go on without a bridge; every relying party then needs the new root itself"

func checkBridgeRoots(old, next *x509.Certificate) error {
	if _, err := pki.NewBundle([]*x509.Certificate{old, next}); err != nil {
		return err
	}
	switch {
	case strings.EqualFold(old.Subject.String(), next.Subject.String()):
		return fault.New(fault.Invalid, "both roots have one subject, so OpenSSL takes the one for the other").
			WithRemedy("make the new root with a name of its own")
	case len(old.SubjectKeyId) == 0:
		return fault.New(fault.Invalid, "the old root has no subject key identifier for the bridge to name").WithRemedy(withoutBridge)
	case len(next.SubjectKeyId) == 0:
		return fault.New(fault.Invalid, "the new root has no subject key identifier for the bridge to have").
			WithRemedy("make the new root with one")
	case bytes.Equal(old.SubjectKeyId, next.SubjectKeyId):
		return fault.New(fault.Invalid, "both roots have the subject key identifier %x", old.SubjectKeyId).
			WithRemedy("make the new root with a key of its own")
	}
	if _, err := pki.AlgorithmOf(next.PublicKey); err != nil {
		return err
	}
	_, err := pki.AlgorithmOf(old.PublicKey)
	return err
}

func checkBridgeDates(now time.Time, old, next *x509.Certificate) error {
	for _, root := range []*x509.Certificate{old, next} {
		name := root.Subject.CommonName
		switch left := root.NotAfter.Sub(now); {
		case now.Before(root.NotBefore):
			return fault.New(fault.Invalid, "the root %q is not valid before %s; now it is %s", name, stamp(root.NotBefore), stamp(now)).
				WithRemedy("wait, or check the clock")
		case left < 0:
			return fault.New(fault.Invalid, "the root %q expired at %s", name, stamp(root.NotAfter)).WithRemedy(withoutBridge)
		case left < shortestBridge:
			return fault.New(fault.Invalid, "the root %q ends at %s, in less than %s", name, stamp(root.NotAfter), shortestBridge).WithRemedy(withoutBridge)
		}
	}
	return nil
}

func checkBridgeDepth(old, next *x509.Certificate) error {
	for _, c := range []struct {
		root  *x509.Certificate
		below int
	}{{old, belowOld}, {next, belowNext}} {
		if n, limited := pathLength(c.root); limited && n < c.below {
			return fault.New(fault.Invalid, "the root %q allows %d authorities below it (pathLenConstraint); the chain has %d", c.root.Subject.CommonName, n, c.below).
				WithRemedy(withoutBridge)
		}
	}
	return nil
}

// checkBridgeUse holds what the roots say of whatever stands under them.
func checkBridgeUse(old, next *x509.Certificate) error {
	for _, root := range []*x509.Certificate{old, next} {
		name := root.Subject.CommonName
		if !forTLS(root) {
			return fault.New(fault.Invalid, "the extended key usages of the root %q leave out serverAuth or clientAuth", name).WithRemedy(withoutBridge)
		}
		if constrainsOtherNames(root) {
			return fault.New(fault.Invalid, "the root %q constrains names of a kind that Go and OpenSSL treat differently", name).WithRemedy(withoutBridge)
		}
		if len(root.UnhandledCriticalExtensions) > 0 {
			return fault.New(fault.Invalid, "the root %q has the critical extension %s, which Go refuses", name, root.UnhandledCriticalExtensions[0]).
				WithRemedy(withoutBridge)
		}
	}
	return nil
}

// forTLS tells whether servers and clients may stand under cert.
func forTLS(cert *x509.Certificate) bool {
	if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return true
	}
	return slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
}

func checkBridgeNames(old, next, issuing *x509.Certificate) error {
	if err := pki.CheckLink(issuing, next); err != nil {
		return err
	}
	if err := constraintsOf(old).contain(constraintsOf(issuing)); err != nil {
		return fault.Wrap(fault.Invalid, err, "the old root's name constraints bind through a bridge").
			WithRemedy("make an issuing authority that permits no more, or go on without a bridge")
	}
	return nil
}
