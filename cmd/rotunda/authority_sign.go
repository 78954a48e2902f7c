package main

import (
	"crypto/x509"
	"os"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// ceremonyOrder is one run of authority sign.
type ceremonyOrder struct {
	request, out string // files
	signing      signing
	dryRun       bool
	output       *format
}

// signedCertificate is one of those that a request asks for.
type signedCertificate struct {
	What         string    `json:"what"` // root, issuing authority, bridge
	Subject      string    `json:"subject"`
	By           string    `json:"by"`
	Algorithm    string    `json:"algorithm"`
	NotAfter     time.Time `json:"notAfter"`
	PathLength   int       `json:"pathLength"` // -1: none
	PermittedDNS []string  `json:"permittedDNS,omitempty"`
	PermittedIPs []string  `json:"permittedIPs,omitempty"`
	PermittedURI []string  `json:"permittedURI,omitempty"`
}

// signedResponse is what a request leads to.
type signedResponse struct {
	DryRun   bool                `json:"dryRun"`
	Request  string              `json:"request"` // its digest
	Signed   []signedCertificate `json:"signed"`
	NoBridge string              `json:"noBridge,omitempty"` // why there is none, where one was asked for
	Response string              `json:"response,omitempty"` // the file that was written
}

func (o *ceremonyOrder) run(u *ui) error {
	text, err := os.ReadFile(o.request)
	if err != nil {
		return err
	}
	parsed, err := ca.ParseCeremonyRequest(text)
	if err != nil {
		return err
	}
	kind := "issuing"
	if parsed.NewRoot != nil {
		kind = "root"
	}
	if err := o.signing.check(kind); err != nil {
		return err
	}
	if o.out != "" && exists(o.out) {
		return fault.New(fault.Conflict, "%s exists already", o.out).WithRemedy("say another --out, or move it away")
	}
	if err := o.signing.open(u); err != nil {
		return err
	}
	if o.dryRun {
		return o.try(u, parsed)
	}
	response, err := o.signing.sign(u, text)
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.out, response, 0o644); err != nil {
		return err
	}
	signed, err := ca.ParseCeremonyResponse(response)
	if err != nil {
		return err
	}
	shown := describeSigned(parsed, signed, nil)
	shown.Response = o.out
	return u.showValue(*o.output, shown, func() {
		u.say("Signed: %q. The response is in %s.", parsed.Issuing.Name, o.out)
		u.note("carry it back, then: rotunda trust begin --response %[1]s (of a region's first: rotunda authority create --response %[1]s; of canaries: rotunda authority import --response %[1]s)", o.out)
	})
}

// try holds the ceremony in memory, with a new root's key that is forgotten.
func (o *ceremonyOrder) try(u *ui, request ca.CeremonyRequest) error {
	held := ca.CeremonyKeys{Old: o.signing.old}
	if request.NewRoot != nil {
		var err error
		if held.New, err = request.NewRoot.Algorithm.Generate(); err != nil {
			return err
		}
	}
	signed, noBridge, err := ca.HoldCeremony(time.Now(), request, held)
	if err != nil {
		return err
	}
	shown := describeSigned(request, signed, noBridge)
	shown.DryRun = true
	return u.showValue(*o.output, shown, func() { u.showSigned(shown) })
}

func describeSigned(request ca.CeremonyRequest, signed ca.CeremonyResponse, noBridge error) signedResponse {
	shown := signedResponse{Request: signed.Request.String()}
	if noBridge != nil {
		shown.NoBridge = noBridge.Error()
	}
	add := func(what string, certificate *x509.Certificate) {
		one := signedCertificate{
			What: what, Subject: certificate.Subject.String(), By: certificate.Issuer.String(), NotAfter: certificate.NotAfter.UTC(),
			PathLength: certificate.MaxPathLen, PermittedDNS: certificate.PermittedDNSDomains, PermittedURI: certificate.PermittedURIDomains,
		}
		if algorithm, err := pki.AlgorithmOf(certificate.PublicKey); err == nil {
			one.Algorithm = string(algorithm)
		}
		for _, block := range certificate.PermittedIPRanges {
			one.PermittedIPs = append(one.PermittedIPs, block.String())
		}
		shown.Signed = append(shown.Signed, one)
	}
	if request.NewRoot != nil {
		add("root", signed.Root)
	}
	add("issuing authority", signed.Issuing)
	if signed.Bridge != nil {
		add("bridge", signed.Bridge)
	}
	return shown
}

// showSigned says what would be signed, as whoever holds the root's key wants to know.
func (u *ui) showSigned(shown signedResponse) {
	for _, one := range shown.Signed {
		u.say("%s: %s", one.What, one.Subject)
		u.say("    signed by %s; %s, until %s", one.By, one.Algorithm, one.NotAfter.Format(time.DateOnly))
		for _, names := range []struct {
			what string
			list []string
		}{{"DNS names", one.PermittedDNS}, {"addresses", one.PermittedIPs}, {"SPIFFE IDs of", one.PermittedURI}} {
			if len(names.list) > 0 {
				u.say("    may certify %s: %s", names.what, strings.Join(names.list, ", "))
			} else if one.What == "issuing authority" {
				u.say("    may certify %s: any", names.what)
			}
		}
	}
	if shown.NoBridge != "" {
		u.say("no bridge: %s", shown.NoBridge)
	}
	u.say("Request %s. Nothing was signed: this was a dry run.", shown.Request)
}
