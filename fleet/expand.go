package fleet

import (
	"fmt"
	"path"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// PlacementKey identifies a placement: the place where a certificate lives.
type PlacementKey struct {
	Intent   Name
	Agent    string
	Instance Name
}

// String is "intent/agent/instance".
func (k PlacementKey) String() string {
	return string(k.Intent) + "/" + k.Agent + "/" + string(k.Instance)
}

// Expanded is what an intent means for one instance on one agent's host: all
// templates are filled and all values valid.
type Expanded struct {
	Placement   PlacementKey
	Service     Name
	Names       *pki.Names // nil: deliver the bundle only
	ProfileName Name
	Profile     *Profile // nil with Names
	Bundle      Name
	Target      Target
	Files       Files
	Proof       Proof
}

// Expand says what the intent means for one instance on the agent's host. The
// profile is the one that the intent names, or nil where it has no identity.
func Expand(td spiffeid.TrustDomain, intent Document, profile *Profile, agent Agent, instance Name) (Expanded, error) {
	in, ok := intent.Spec.(*Intent)
	if !ok {
		return Expanded{}, fault.New(fault.Invalid, "%s is not an intent", intent)
	}
	f := &filler{td: td, agent: agent, instance: instance}
	out := Expanded{
		Placement: PlacementKey{intent.Name, agent.ID, instance},
		Service:   in.Service,
		Bundle:    in.Bundle,
		Target:    f.target(in.Target, intent.Name),
		Files:     f.files(in.Files),
		Proof:     in.Proof,
	}
	if in.Identity != nil {
		out.Names, out.ProfileName, out.Profile = f.names(in.Identity), in.Profile, profile
		if profile == nil && f.err == nil {
			f.err = fault.New(fault.NotFound, "profile %q does not exist", in.Profile)
		}
		if out.Target.ServerName == "" && out.Names != nil && len(out.Names.DNS) > 0 {
			out.Target.ServerName = out.Names.DNS[0]
		}
	}
	if f.err != nil {
		return Expanded{}, fault.Wrap(fault.Invalid, f.err, "%s on agent %s, instance %s", intent, agent.ID, instance)
	}
	return out, nil
}

// filler fills templates and keeps the first error.
type filler struct {
	td       spiffeid.TrustDomain
	agent    Agent
	instance Name
	err      error
}

func (f *filler) value(field string) (string, error) {
	if key, ok := strings.CutPrefix(field, labelPrefix); ok {
		value, ok := f.agent.Labels[key]
		if !ok {
			return "", fault.New(fault.Invalid, "the agent has no label %q", key).
				WithRemedy("add it with rotunda agent label, or narrow the intent's selector")
		}
		return value, checkLabel(key, value)
	}
	value := map[string]string{
		"instance":    string(f.instance),
		"agent":       f.agent.ID,
		"region":      f.agent.Region,
		"zone":        f.agent.Zone,
		"trustDomain": f.td.Name(),
	}[field]
	if value == "" {
		return "", fault.New(fault.Invalid, "the agent has no %s, which {{ %s }} asks for", field, field)
	}
	return value, nil
}

// fill expands the text of the field at a path.
func (f *filler) fill(at, text string) string {
	return f.fillWith(at, text, f.value)
}

func (f *filler) fillWith(at, text string, value func(string) (string, error)) string {
	parsed, err := parseTemplate(text)
	var out string
	if err == nil {
		out, err = parsed.fill(value)
	}
	f.fail(at, err)
	return out
}

func (f *filler) fail(at string, err error) {
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("%s: %w", at, err)
	}
}

func (f *filler) names(id *Identity) *pki.Names {
	cn := f.fill("spec.identity.commonName", id.CommonName)
	dns := f.fillAll("spec.identity.dnsNames", id.DNSNames)
	ips := f.fillAll("spec.identity.ipAddresses", id.IPAddresses)
	uri := ""
	if id.SPIFFEPath != "" {
		uri = f.spiffeID(id.SPIFFEPath)
	}
	if f.err != nil {
		return nil
	}
	names, err := pki.ParseNames(cn, dns, ips, uri)
	f.fail("spec.identity", err)
	return &names
}

func (f *filler) fillAll(at string, texts []string) []string {
	var all []string
	for i, text := range texts {
		all = append(all, f.fill(fmt.Sprintf("%s[%d]", at, i), text))
	}
	return all
}

func (f *filler) spiffeID(template string) string {
	const at = "spec.identity.spiffePath"
	text := f.fill(at, template)
	if f.err != nil {
		return ""
	}
	id, err := spiffeid.FromPath(f.td, text)
	if err != nil {
		f.fail(at, fault.Wrap(fault.Invalid, err, "SPIFFE path %s", quote(text)))
		return ""
	}
	if isReserved(id.Path()) {
		f.fail(at, reservedPath(text))
	}
	return id.String()
}

// isReserved says whether a SPIFFE path is kept for Rotunda's own servers,
// agents, operators and canaries. All below /rotunda is, so that a later
// version can name more of its own.
func isReserved(path string) bool {
	return path == "/rotunda" || strings.HasPrefix(path, "/rotunda/")
}

func reservedPath(path string) error {
	return fault.New(fault.Invalid, "SPIFFE path %s is reserved for Rotunda itself", quote(path)).
		WithRemedy("choose a path outside /rotunda")
}

func (f *filler) target(t Target, intent Name) Target {
	t.Name = f.fill("spec.target.name", t.Name)
	t.Cluster = f.fill("spec.target.cluster", t.Cluster)
	t.Address = f.fill("spec.target.address", t.Address)
	t.ServerName = f.fill("spec.target.serverName", t.ServerName)
	if t.Name == "" {
		t.Name = string(intent)
		if f.instance != "main" {
			t.Name += "-" + string(f.instance)
		}
	}
	if f.err == nil && t.Address != "" {
		f.fail("spec.target.address", checkAddress(t.Address))
	}
	return t
}

func (f *filler) files(s Files) Files {
	const at = "spec.files.directory"
	s.Directory = f.fillWith(at, s.Directory, func(field string) (string, error) {
		value, err := f.value(field)
		if err == nil && strings.Contains(value, "/") {
			err = fault.New(fault.Invalid, "{{ %s }} is %s, which would lead out of the directory", field, quote(value))
		}
		return value, err
	})
	if f.err == nil {
		f.fail(at, checkDirectory(s.Directory))
	}
	return s
}

func checkDirectory(directory string) error {
	switch {
	case !path.IsAbs(directory):
		return fault.New(fault.Invalid, "directory %s must be an absolute path", quote(directory))
	case path.Clean(directory) != directory:
		return fault.New(fault.Invalid, "directory %s must be written without '.', '..', '//' and a '/' at its end", quote(directory)).
			WithRemedy("write %s", path.Clean(directory))
	case directory == "/":
		return fault.New(fault.Invalid, "directory / cannot be a placement's own")
	case len(directory) > 3000 || strings.ContainsFunc(directory, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fault.New(fault.Invalid, "directory %s is too long or holds control characters", quote(directory))
	}
	return nil
}
