package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/pki"
)

// sampleDomain stands for the trust domain where a name is only checked for
// its form.
var sampleDomain = spiffeid.RequireTrustDomainFromString("example.org")

func (v *validator) intent(in *Intent) {
	if v.required("spec.service", string(in.Service), "name the service whose processes these are") {
		v.exists("spec.service", KindService, in.Service)
		v.inside(in.Service)
	}
	if v.required("spec.bundle", string(in.Bundle), "name a bundle, or leave it out for the trust domain's own") && in.Bundle != DefaultBundle {
		v.exists("spec.bundle", KindBundle, in.Bundle)
	}
	v.selector(in)
	if len(in.Instances) == 0 {
		v.fail("spec.instances", "required", "leave it out for one instance, main", "spec.instances is empty")
	}
	unique(v, "spec.instances", in.Instances)
	v.identity(in)
	v.templates(in)
	v.target(in)
	v.files(in)
	v.proof(in)
	v.synthetic(in)
}

// synthetic refuses what would disturb others, or show nothing.
func (v *validator) synthetic(in *Intent) {
	if in.Synthetic == nil {
		return
	}
	const at = "spec.synthetic"
	if every := in.Synthetic.Every.Std(); every < time.Minute || every > 24*time.Hour {
		v.fail(at+".every", "value", "write a time from 1m to 24h", "a synthetic rotation every %s", in.Synthetic.Every)
	}
	if in.Proof.Level != Proven {
		v.fail(at, "combination", "write target.address and proof.level: proven", "a synthetic intent that is not proven shows nothing")
	}
	if in.Target.Cluster != "" {
		v.fail("spec.target.cluster", "combination", "remove it", "a synthetic intent serves nobody, and would take slots of the members of cluster %s", in.Target.Cluster)
	}
}

// inside refuses an intent of an outside party.
func (v *validator) inside(service Name) {
	if s, ok := v.set.Service(service); ok && s.Outside {
		v.fail("spec.service", "outside", fmt.Sprintf("remove the intent, or outside: true from %s if our agents run on its hosts", Key{KindService, service}),
			"%s is an outside party: no agent of ours is on its hosts, so nothing can be delivered there", Key{KindService, service})
	}
}

func (v *validator) selector(in *Intent) {
	switch {
	case in.AllAgents && len(in.Selector) > 0:
		v.fail("spec.allAgents", "combination", "write one of the two", "an intent has either a selector or allAgents")
	case !in.AllAgents && len(in.Selector) == 0:
		v.fail("spec.selector", "required", "write labels, or allAgents: true if every host is meant", "the selector is empty: the intent would select no agent")
	}
	for _, key := range slices.Sorted(maps.Keys(in.Selector)) {
		if err := checkLabel(key, in.Selector[key]); err != nil {
			v.fail("spec.selector."+key, "value", "no agent can have such a label", "%v", err)
		}
	}
}

func (v *validator) identity(in *Intent) {
	if in.Identity == nil {
		if in.Profile != "" {
			v.fail("spec.profile", "combination", "write an identity, or remove the profile to deliver the bundle only",
				"the intent has a profile and no identity: a certificate would name nobody")
		}
		return
	}
	if v.required("spec.profile", string(in.Profile), "name the profile that says what the certificate is like") {
		v.exists("spec.profile", KindProfile, in.Profile)
	}
	id := in.Identity
	if len(id.DNSNames)+len(id.IPAddresses) == 0 && id.SPIFFEPath == "" {
		v.fail("spec.identity", "required", "write dnsNames, ipAddresses or a spiffePath: verifiers look at no other name", "the identity has no name that verifiers look at")
	}
	unique(v, "spec.identity.dnsNames", id.DNSNames)
	unique(v, "spec.identity.ipAddresses", id.IPAddresses)
	v.names("spec.identity.commonName", id.CommonName, func(s string) (pki.Names, error) {
		return pki.ParseNames(s, []string{"example.org"}, nil, "")
	})
	for i, name := range id.DNSNames {
		v.names(fmt.Sprintf("spec.identity.dnsNames[%d]", i), name, func(s string) (pki.Names, error) {
			return pki.ParseNames("", []string{s}, nil, "")
		})
	}
	for i, address := range id.IPAddresses {
		v.names(fmt.Sprintf("spec.identity.ipAddresses[%d]", i), address, func(s string) (pki.Names, error) {
			return pki.ParseNames("", nil, []string{s}, "")
		})
	}
	v.spiffePath(id.SPIFFEPath)
}

// names checks a name that holds no template.
func (v *validator) names(path, text string, parse func(string) (pki.Names, error)) {
	if path == "spec.identity.commonName" && text == "" || hasTemplate(text) {
		return
	}
	if _, err := parse(text); err != nil {
		v.fail(path, "value", "", "%s: %v", path, err)
	}
}

func (v *validator) spiffePath(path string) {
	const at = "spec.identity.spiffePath"
	literal, _, templated := strings.Cut(path, "{{")
	switch {
	case path == "":
	case isReserved(literal):
		v.fail(at, "reserved", "choose a path outside /rotunda", "SPIFFE path %s is reserved for Rotunda itself", quote(path))
	case !templated:
		if _, err := spiffeid.FromPath(sampleDomain, path); err != nil {
			v.fail(at, "value", "write a path such as /orders/api", "SPIFFE path %s: %v", quote(path), err)
		}
	}
}

// templates checks the form of all fields that may hold templates, and that
// no other does.
func (v *validator) templates(in *Intent) {
	may := map[string]string{
		"spec.target.name":       in.Target.Name,
		"spec.target.cluster":    in.Target.Cluster,
		"spec.target.address":    in.Target.Address,
		"spec.target.serverName": in.Target.ServerName,
		"spec.files.directory":   in.Files.Directory,
	}
	if id := in.Identity; id != nil {
		may["spec.identity.commonName"] = id.CommonName
		may["spec.identity.spiffePath"] = id.SPIFFEPath
		for i, name := range id.DNSNames {
			may[fmt.Sprintf("spec.identity.dnsNames[%d]", i)] = name
		}
		for i, address := range id.IPAddresses {
			may[fmt.Sprintf("spec.identity.ipAddresses[%d]", i)] = address
		}
	}
	for _, path := range slices.Sorted(maps.Keys(may)) {
		if _, err := parseTemplate(may[path]); err != nil {
			v.fail(path, "template", "", "%s: %v", path, err)
		}
	}
	for _, fixed := range []struct{ path, text string }{
		{"spec.files.owner", in.Files.Owner},
		{"spec.files.group", in.Files.Group},
		{"spec.files.password", in.Files.Password},
		{"spec.target.reloadCommand", in.Target.ReloadCommand},
		{"spec.target.restartCommand", in.Target.RestartCommand},
	} {
		if hasTemplate(fixed.text) {
			v.fail(fixed.path, "template", "write it out", "%s cannot hold a template", fixed.path)
		}
	}
}

func (v *validator) files(in *Intent) {
	f := in.Files
	if v.required("spec.files.directory", f.Directory, "write the placement's own directory, absolute") {
		v.directory(f.Directory)
	}
	v.required("spec.files.mode", string(f.Mode), `write "0640", or leave it out`)
	for _, account := range []struct{ path, name string }{{"spec.files.owner", f.Owner}, {"spec.files.group", f.Group}} {
		if account.name != "" && !hasTemplate(account.name) && !accountForm.MatchString(account.name) {
			v.fail(account.path, "value", "write the name of a user or group, or its number in quotes", "%s %s is not the name of an account", account.path, quote(account.name))
		}
	}
	if len(f.Formats) == 0 {
		v.fail("spec.files.formats", "required", "leave it out for [pem]", "spec.files.formats is empty")
	}
	unique(v, "spec.files.formats", f.Formats)
	keystore := slices.Contains(f.Formats, FormatPKCS12) || slices.Contains(f.Formats, FormatJKS)
	switch {
	case keystore && f.Password == "":
		v.fail("spec.files.password", "required", "name a password of the host's agent.yaml", "a keystore needs a password")
	case !keystore && f.Password != "":
		v.fail("spec.files.password", "combination", "remove it, or add pkcs12 or jks to files.formats", "there is a password and no keystore to use it for")
	}
	if in.Identity == nil && slices.Contains(f.Formats, FormatCombined) {
		v.fail("spec.files.formats", "combination", "remove combined", "combined is leaf and key in one file, but the intent delivers a bundle only")
	}
}

func (v *validator) directory(text string) {
	const at = "spec.files.directory"
	parsed, err := parseTemplate(text)
	if err != nil {
		return // reported with the templates
	}
	// A field's value holds no slash, so any word shows the path's form.
	sample, _ := parsed.fill(func(string) (string, error) { return "x", nil })
	if err := checkDirectory(sample); err != nil {
		v.fail(at, "value", "", "%s: %v", at, err)
	}
}

func (v *validator) proof(in *Intent) {
	p, t := in.Proof, in.Target
	switch {
	case p.Level == Proven && t.Address == "":
		v.fail("spec.proof.level", "combination", "write target.address, or a lower level", "nothing can be proven of a target without an address")
	case p.Level == Proven && in.Identity == nil:
		v.fail("spec.proof.level", "combination", "write level: delivered, or loaded with a reloadCommand", "a handshake shows a leaf, and this intent delivers a bundle only")
	case p.Level == Loaded && t.ReloadCommand == "" && t.RestartCommand == "" && t.Kind == TargetFiles:
		v.fail("spec.proof.level", "combination", "write target.reloadCommand or target.restartCommand, or level: delivered", "nothing can say that the process loaded the files")
	}
	switch limit := 10 * time.Minute; {
	case p.Timeout == 0:
		v.fail("spec.proof.timeout", "value", "write a time such as 10s", "with a timeout of 0s no proof can succeed")
	case p.Timeout.Std() > limit:
		v.fail("spec.proof.timeout", "value", "write 10m or less", "timeout %s is longer than ten minutes: the old key would lie beside the new one, unproven, for so long", p.Timeout)
	case p.Observe >= p.Timeout:
		v.fail("spec.proof.observe", "arithmetic", "write a shorter observe or a longer timeout", "handshakes go on for %s, which leaves nothing of the timeout %s", p.Observe, p.Timeout)
	}
}
