package fleet

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Validate says what is wrong with the documents of a trust domain, seen
// together: the set is what would stand after a change. Findings about
// documents that came from files have their lines.
//
// What needs the agents, the authorities or the policy is not looked at here.
func Validate(set Set) []Finding {
	v := &validator{set: set}
	for _, d := range set.Documents() {
		v.document = d
		switch spec := d.Spec.(type) {
		case *Service:
			v.service(spec)
		case *Profile:
			v.profile(spec)
		case *Policy:
			v.policy(spec)
		case *Intent:
			v.intent(spec)
		case *Bundle:
			v.bundle(spec)
		case *Window:
			v.window(spec)
		case *Exception:
			v.exception(spec)
		case *Region:
			v.region(spec)
		}
	}
	v.sharedDirectories()
	v.sharedTargets()
	v.sharedClusters()
	SortFindings(v.findings)
	return v.findings
}

type validator struct {
	set      Set
	document Document // the one that is looked at
	findings []Finding
}

func (v *validator) fail(path, rule, remedy, format string, args ...any) {
	v.report(Error, path, rule, remedy, fmt.Sprintf(format, args...))
}

func (v *validator) warn(path, rule, remedy, format string, args ...any) {
	v.report(Warning, path, rule, remedy, fmt.Sprintf(format, args...))
}

// report notes a finding, unless ParseFiles has said already why the field,
// or one in it, could not be read.
func (v *validator) report(severity Severity, path, rule, remedy, message string) {
	if !v.document.isBroken(path) {
		v.findings = append(v.findings, v.document.Finding(severity, path, rule, message, remedy))
	}
}

// required says whether a field that must be there is.
func (v *validator) required(path, value, remedy string) bool {
	if strings.TrimSpace(value) != "" {
		return true
	}
	v.fail(path, "required", remedy, "%s is missing", path)
	return false
}

// exists checks a reference to another document.
func (v *validator) exists(path string, kind Kind, name Name) {
	if _, ok := v.set[Key{kind, name}]; ok {
		return
	}
	var known []string
	for _, d := range v.set.OfKind(kind) {
		known = append(known, string(d.Name))
	}
	remedy := fmt.Sprintf("declare the %s, or mend the name", strings.ToLower(string(kind)))
	if len(known) > 0 && len(known) <= 20 {
		remedy = suggestion(string(name), known)
	}
	v.fail(path, "dangling", remedy, "%s: %s does not exist", path, Key{kind, name})
}

// unique checks that a list says nothing twice.
func unique[T ~string](v *validator, path string, list []T) {
	seen := make(map[T]bool)
	for i, item := range list {
		if seen[item] {
			v.fail(fmt.Sprintf("%s[%d]", path, i), "duplicate", "remove one of the two", "%s lists %s twice", path, quote(string(item)))
		}
		seen[item] = true
	}
}

func (v *validator) service(s *Service) {
	v.required("spec.owner.team", s.Owner.Team, "name the team that answers for the service")
	v.required("spec.owner.contact", s.Owner.Contact, "say how to reach the team when a rotation fails")
	if needed := !s.Outside || s.Owner.Runbook != ""; needed && v.required("spec.owner.runbook", s.Owner.Runbook, "say where it is written what to do when a rotation fails") {
		if u, err := url.Parse(s.Owner.Runbook); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			v.fail("spec.owner.runbook", "value", "write a URL such as https://wiki.example.com/orders", "runbook %s is not an http or https URL", quote(s.Owner.Runbook))
		}
	}
	if s.Owner.Notify != "" {
		if err := CheckNotifyURL(s.Owner.Notify); err != nil {
			v.fail("spec.owner.notify", "value", "write a URL such as https://hooks.example.com/shop", "notify: %v", err)
		}
	}
	if s.Zone != "" {
		v.fail("spec.zone", "value", "leave zone out", "zone %s has no root of its own; there is only the zone of the whole trust domain", quote(s.Zone))
	}
	if host, port, err := net.SplitHostPort(s.Address); s.Address != "" && (err != nil || host == "" || port == "") {
		v.fail("spec.address", "value", "write it like orders.example.com:5432", "address %s is not host:port", quote(s.Address))
	}
	unique(v, "spec.clients", s.Clients)
	for i, client := range s.Clients {
		v.exists(fmt.Sprintf("spec.clients[%d]", i), KindService, client)
	}
}

func (v *validator) policy(p *Policy) {
	if len(p.Rules) == 0 {
		v.fail("spec.rules", "required", "write a rule, or remove the policy", "the policy has no rules")
	}
	seen := make(map[Name]bool)
	for i, rule := range p.Rules {
		at := fmt.Sprintf("spec.rules[%d]", i)
		if v.required(at+".name", string(rule.Name), "name the rule: refusals cite it") && seen[rule.Name] {
			v.fail(at+".name", "duplicate", "give it another name", "the policy has two rules named %s", rule.Name)
		}
		seen[rule.Name] = true
		v.required(at+".effect", string(rule.Effect), "write allow or deny")
		v.required(at+".when", rule.When, "write a condition in CEL; true holds always")
	}
}

func (v *validator) bundle(b *Bundle) {
	if v.document.Name == DefaultBundle {
		v.fail("metadata.name", "reserved", "choose another name", "bundle %q is the trust domain's own anchors and cannot be declared", DefaultBundle)
	}
	if len(b.Anchors) == 0 {
		v.fail("spec.anchors", "required", "write an anchor, or remove the bundle", "the bundle has no anchors: whoever holds it would trust nobody")
	}
	for i, anchor := range b.Anchors {
		at := fmt.Sprintf("spec.anchors[%d]", i)
		if (anchor.PEM == "") == (anchor.Authority == "") {
			v.fail(at, "combination", "write one of the two", "an anchor has either pem or authority")
		}
		if anchor.PEM != "" {
			v.pem(at+".pem", anchor.PEM)
		}
	}
}

func (v *validator) pem(path, text string) {
	certificates, err := pki.ParseCertificatesPEM([]byte(text))
	if err == nil {
		_, err = pki.NewBundle(certificates)
	}
	if err != nil {
		v.fail(path, "value", "paste the CA certificates only, in PEM, under a '|'", "%s: %v", path, err)
	}
}

func (v *validator) window(w *Window) {
	unique(v, "spec.days", w.Days)
	v.required("spec.from", string(w.From), "say when the window opens, as HH:MM")
	v.required("spec.to", string(w.To), "say when the window closes, as HH:MM")
	if w.From != "" && w.From == w.To {
		v.fail("spec.to", "value", "choose two times", "the window closes at %s, when it opens", w.To)
	}
	if _, err := time.LoadLocation(w.Timezone); err != nil || w.Timezone == "" || w.Timezone == "Local" {
		v.fail("spec.timezone", "value", "write an IANA name such as Europe/Berlin", "time zone %s is not known", quote(w.Timezone))
	}
}

func (v *validator) exception(e *Exception) {
	v.required("spec.rule", e.Rule, "name the rule that is not applied")
	v.required("spec.subject", e.Subject, "say whom it is not applied to")
	v.required("spec.owner", e.Owner, "say who answers for the exception")
	v.required("spec.reason", e.Reason, "say why")
	if time.Time(e.Until).IsZero() {
		v.fail("spec.until", "required", "say when the exception ends", "spec.until is missing")
	}
}

func (v *validator) region(r *Region) {
	unique(v, "spec.servers", r.Servers)
	for i, server := range r.Servers {
		if err := checkAddress(server); err != nil {
			v.fail(fmt.Sprintf("spec.servers[%d]", i), "value", "write host:port", "%v", err)
		}
		if other := v.otherRegion(server); other != "" {
			v.fail(fmt.Sprintf("spec.servers[%d]", i), "duplicate", "leave it in the region where it stands", "%s is a server of region %s too", server, other)
		}
	}
}

// otherRegion is the first other region that names a server.
func (v *validator) otherRegion(server string) Name {
	for _, d := range v.set.OfKind(KindRegion) {
		region, ok := d.Spec.(*Region)
		if ok && d.Name != v.document.Name && slices.Contains(region.Servers, server) {
			return d.Name
		}
	}
	return ""
}
