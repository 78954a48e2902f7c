// Package lint looks at what an authority would issue with the eyes of zlint,
// the linter that public certificate authorities use, and keeps what holds for
// a private one too.
//
// It is a package of its own because zlint costs memory and time at the start
// of every process that links it: only the control plane does.
package lint

import (
	"cmp"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	zx509 "github.com/zmap/zcrypto/x509"
	zlint "github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/community" // each registers its lints
	_ "github.com/zmap/zlint/v3/lints/rfc"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Finding is one rule that a certificate breaks, or nearly.
type Finding struct {
	Severity string // error, warning, notice
	Error    bool   // Severity is error
	Lint     string // zlint's name of the rule
	Message  string // the rule
	Citation string // where the rule is written
}

// sources are the rules that hold for any X.509 certificate. Left out are
// those of the public web: CA/B Forum, certificate transparency (RFC 6962),
// browsers' root programmes, ETSI.
var sources = zlint.SourceList{
	zlint.RFC3279, zlint.RFC5280, zlint.RFC5480, zlint.RFC5891, zlint.RFC6960, zlint.RFC8813, zlint.Community,
}

// Leaf lints a certificate like those of the profile: it is issued for these
// terms and a new key of the algorithm by an authority made for the purpose.
func Leaf(algorithm pki.KeyAlgorithm, terms ca.Terms, now time.Time) ([]Finding, error) {
	der, err := sample(algorithm, terms, now)
	if err != nil {
		return nil, err
	}
	return Certificate(der)
}

// Certificate lints one certificate (DER).
func Certificate(der []byte) ([]Finding, error) {
	cert, err := zx509.ParseCertificate(der)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "parse certificate for linting")
	}
	registry, err := zlint.GlobalRegistry().Filter(zlint.FilterOptions{IncludeSources: sources})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "select lints")
	}
	var findings []Finding
	for _, rule := range registry.CertificateLints().Lints() {
		result := rule.Execute(cert, registry.GetConfiguration())
		severity := severityOf(result.Status)
		if severity == "" {
			continue
		}
		findings = append(findings, Finding{
			Severity: severity, Error: severity == "error", Lint: rule.Name,
			Message: message(rule.Description, result.Details), Citation: rule.Citation,
		})
	}
	slices.SortFunc(findings, func(a, b Finding) int { return cmp.Compare(a.Lint, b.Lint) })
	return findings, nil
}

func severityOf(status zlint.LintStatus) string {
	switch status {
	case zlint.Error, zlint.Fatal:
		return "error"
	case zlint.Warn:
		return "warning"
	case zlint.Notice:
		return "notice"
	}
	return ""
}

func message(description, details string) string {
	if details == "" {
		return description
	}
	return strings.TrimSuffix(description, ".") + ": " + details
}

// sample issues one certificate with a name of each kind.
func sample(algorithm pki.KeyAlgorithm, terms ca.Terms, now time.Time) ([]byte, error) {
	domain, err := spiffeid.TrustDomainFromString("lint.example.org")
	if err != nil {
		return nil, err
	}
	authority, err := throwaway(domain, terms, now)
	if err != nil {
		return nil, err
	}
	names, err := pki.ParseNames("", []string{"db.example.org"}, []string{netip.IPv6Loopback().String()}, domain.IDString()+"/db")
	if err != nil {
		return nil, err
	}
	key, err := algorithm.Generate()
	if err != nil {
		return nil, err
	}
	prepared, err := authority.Prepare(now, ca.Request{PublicKey: key.Public(), Names: names, Terms: terms})
	if err != nil {
		return nil, err
	}
	issued, err := authority.Issue(prepared)
	return issued.DER, err
}

func throwaway(domain spiffeid.TrustDomain, terms ca.Terms, now time.Time) (*ca.Authority, error) {
	const publicURL = "http://pki.example.org"
	// Old enough for the backdate, and longer than the leaf.
	born := now.Add(-max(terms.Backdate, 0)).Add(-time.Hour)
	life := max(terms.Lifetime, 0) + max(terms.Backdate, 0) + 2*time.Hour
	root, rootKey, err := ca.CreateRoot(born, ca.RootOrder{TrustDomain: domain, Name: "lint root", Algorithm: pki.ECDSAP256, Lifetime: life})
	if err != nil {
		return nil, err
	}
	issuing, key, err := ca.CreateIssuing(born, root, rootKey, ca.IssuingOrder{
		ParentID: "root", TrustDomain: domain, Name: "lint issuing", Algorithm: pki.ECDSAP256, Lifetime: life,
	}, publicURL)
	if err != nil {
		return nil, err
	}
	return ca.NewAuthority("issuing", issuing, []*x509.Certificate{issuing}, key, publicURL)
}
