package main

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
)

// sight is an observation with what a person wants to know of it.
type sight struct {
	probe.Observation
	// Trusted is whether --ca trusts the chain; null without --ca.
	Trusted *bool `json:"trusted"`
	// Warning is what Rotunda would refuse and most clients let pass.
	Warning      string          `json:"warning,omitempty"`
	Certificates []certificateAt `json:"certificates"`
}

// certificateAt is one certificate of a served chain.
type certificateAt struct {
	Subject     string    `json:"subject"`
	Names       []string  `json:"names"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial"`
	Algorithm   string    `json:"algorithm"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Fingerprint string    `json:"fingerprint"`
}

func sightOf(spec probe.Spec, seen probe.Observation) sight {
	s := sight{Observation: seen, Certificates: []certificateAt{}}
	for _, certificate := range seen.Certificates {
		s.Certificates = append(s.Certificates, servedCertificate(certificate))
	}
	if seen.Outcome != probe.Served || seen.Trust == "" {
		return s
	}
	trusted := seen.Trust == probe.Trusted
	if !trusted && trustedByMost(spec, seen) {
		trusted, s.Warning = true, seen.Trust
	}
	s.Trusted = &trusted
	return s
}

func servedCertificate(certificate *x509.Certificate) certificateAt {
	return certificateAt{
		Subject:     oneLine(certificate.Subject.String()),
		Names:       sanitised(pki.NamesOf(certificate).Strings()),
		Issuer:      oneLine(certificate.Issuer.String()),
		Serial:      certificate.SerialNumber.Text(16),
		Algorithm:   algorithmName(certificate),
		NotBefore:   certificate.NotBefore.UTC(),
		NotAfter:    certificate.NotAfter.UTC(),
		Fingerprint: pki.FingerprintOf(certificate.Raw).String(),
	}
}

func sanitised(names []string) []string {
	clean := []string{}
	for _, name := range names {
		clean = append(clean, oneLine(name))
	}
	return clean
}

func algorithmName(certificate *x509.Certificate) string {
	if algorithm, err := pki.AlgorithmOf(certificate.PublicKey); err == nil {
		return string(algorithm)
	}
	return certificate.PublicKeyAlgorithm.String()
}

func (s sight) show(u *ui) {
	fields := []field{{"address", s.Address}, {"asked for", s.ServerName}, {"outcome", s.outcome()}}
	if s.Leaf != nil {
		fields = append(fields,
			field{"names", strings.Join(s.Certificates[0].Names, " ")},
			field{"not after", whenEnds(u.now, s.Leaf.NotAfter)},
			field{"serial", s.Leaf.Serial},
			field{"fingerprint", s.Leaf.Fingerprint},
			field{"key", s.Certificates[0].Algorithm + ", SPKI " + s.Leaf.SPKI},
		)
	}
	fields = append(fields,
		field{"protocol", s.Protocol}, field{"group", s.Group}, field{"cipher", s.Cipher},
		field{"trust", s.trust()}, field{"clients", s.clients()},
		field{"took", s.took()},
	)
	u.sheet(fields)
	if len(s.Certificates) == 0 {
		return
	}
	u.heading("Chain as served")
	chain := newTable("SUBJECT", "ISSUER", "NOT AFTER", "KEY", "FINGERPRINT")
	for _, c := range s.Certificates {
		chain.row(c.Subject, c.Issuer, whenEnds(u.now, c.NotAfter), c.Algorithm, c.Fingerprint[:16])
	}
	chain.write(u, "")
}

func (s sight) took() string {
	if s.LatencyMicros == 0 {
		return ""
	}
	return (time.Duration(s.LatencyMicros) * time.Microsecond).Round(100 * time.Microsecond).String()
}

func (s sight) outcome() string {
	if s.Outcome == probe.Served {
		return "served, and it holds the key"
	}
	return fmt.Sprintf("%s at %s: %s", s.Outcome, s.Stage, s.Error)
}

func (s sight) trust() string {
	switch {
	case s.Outcome != probe.Served:
		return ""
	case s.Trusted == nil:
		return "not verified: give --ca"
	case s.Warning != "":
		return "trusted by most clients; Rotunda would not serve it: " + s.Warning
	}
	return s.Trust
}

// clients says what the server demands of its clients.
func (s sight) clients() string {
	switch {
	case s.Outcome != probe.Served:
		return ""
	case !s.ClientAuth:
		return "no certificate is asked for"
	}
	said := map[probe.Acceptance]string{
		probe.Accepted: "accepted",
		probe.Rejected: "rejected",
		probe.Silent:   "not rejected so far",
		probe.NotKnown: "not known",
	}[s.Accepted]
	brought := "a client without one is "
	if s.Sent != "" {
		brought = "the one given is "
	}
	text := "a certificate is asked for; " + brought + said
	if len(s.Authorities) > 0 {
		text += "; advertised issuers: " + strings.Join(s.Authorities, ", ")
	}
	return text
}

func whenEnds(now, t time.Time) string {
	left := t.Sub(now)
	when := "in " + rough(left)
	if left < 0 {
		when = rough(-left) + " ago"
	}
	return t.UTC().Format(time.RFC3339) + " (" + when + ")"
}
