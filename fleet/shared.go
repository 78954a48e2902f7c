package fleet

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// sharedDirectories finds, without knowing any agent, placements that would
// stand in one directory of one host. Templates that differ only in their
// fields' values are CheckHost's to find.
func (v *validator) sharedDirectories() {
	byDirectory := make(map[string][]Document)
	for _, d := range v.set.OfKind(KindIntent) {
		in := d.Spec.(*Intent)
		directory, err := parseTemplate(in.Files.Directory)
		if err != nil || in.Files.Directory == "" {
			continue
		}
		perInstance := directory.names("instance")
		if len(in.Instances) > 1 && !perInstance {
			v.document = d
			v.fail("spec.files.directory", "shared-directory", "put {{ instance }} into files.directory",
				"%d instances on one host would share directory %s", len(in.Instances), quote(in.Files.Directory))
		}
		at := normal(directory)
		for _, other := range byDirectory[at] {
			o := other.Spec.(*Intent)
			if meet(in, o) && (!perInstance || overlap(in.Instances, o.Instances)) {
				v.document = d
				v.fail("spec.files.directory", "shared-directory", "give each intent a directory of its own",
					"%s and %s can select one agent, and would share directory %s", d, other, quote(in.Files.Directory))
			}
		}
		byDirectory[at] = append(byDirectory[at], d)
	}
}

// normal is the template's text with its fields spelled in one way.
func normal(t template) string {
	var out strings.Builder
	for _, p := range t {
		if p.field {
			out.WriteString("{{" + p.text + "}}")
		} else {
			out.WriteString(p.text)
		}
	}
	return out.String()
}

// meet says whether some agent can be selected by both: no label is asked to
// have two values.
func meet(a, b *Intent) bool {
	for key, value := range a.Selector {
		if other, ok := b.Selector[key]; ok && other != value {
			return false
		}
	}
	return true
}

func overlap(a, b []Name) bool {
	return slices.ContainsFunc(a, func(n Name) bool { return slices.Contains(b, n) })
}

// sharedTargets finds intents of one process that say different things of it.
func (v *validator) sharedTargets() {
	first := make(map[string]Document)
	for _, d := range v.set.OfKind(KindIntent) {
		in := d.Spec.(*Intent)
		if in.Target.Name == "" {
			continue
		}
		other, ok := first[in.Target.Name]
		if !ok {
			first[in.Target.Name] = d
			continue
		}
		o := other.Spec.(*Intent)
		if meet(in, o) && overlap(in.Instances, o.Instances) {
			if field := differs(in.Target, o.Target); field != "" {
				v.document = d
				v.fail("spec.target."+field, "shared-target", "write the same in both, or give the processes two names",
					"%s and %s name one target, %s, but differ in its %s", d, other, quote(in.Target.Name), field)
			}
		}
	}
}

// differs names a field that all placements of one process must agree in.
func differs(a, b Target) string {
	switch {
	case a.Kind != b.Kind:
		return "kind"
	case a.Cluster != b.Cluster:
		return "cluster"
	case a.RestartCommand != b.RestartCommand:
		return "restartCommand"
	case max(a.MaxUnavailable, 1) != max(b.MaxUnavailable, 1):
		return "maxUnavailable"
	}
	return ""
}

// sharedClusters finds intents of one cluster that disagree on how many of its
// members may be away. Clusters with templates in their names are compared as
// they are written.
func (v *validator) sharedClusters() {
	first := make(map[string]Document)
	for _, d := range v.set.OfKind(KindIntent) {
		t := d.Spec.(*Intent).Target
		name, err := parseTemplate(t.Cluster)
		if err != nil || t.Cluster == "" {
			continue
		}
		other, ok := first[normal(name)]
		if !ok {
			first[normal(name)] = d
			continue
		}
		o := other.Spec.(*Intent).Target
		if max(o.MaxUnavailable, 1) != max(t.MaxUnavailable, 1) {
			v.document = d
			v.fail("spec.target.maxUnavailable", "shared-cluster", "write the same in both, or name two clusters",
				"%s and %s are in one cluster, %s, and let %d and %d of its members be away", other, d, quote(t.Cluster), max(o.MaxUnavailable, 1), max(t.MaxUnavailable, 1))
		}
	}
}

// CheckHost says whether the placements of one agent can stand beside each
// other: each has a directory of its own, which is not inside another's, and
// those of one target agree on what it is. Its error names both placements.
func CheckHost(placements []Expanded) error {
	sorted := slices.SortedFunc(slices.Values(placements), func(a, b Expanded) int {
		return strings.Compare(a.Placement.String(), b.Placement.String())
	})
	directories := make(map[string]PlacementKey, len(sorted))
	targets := make(map[string]Expanded, len(sorted))
	for _, p := range sorted {
		if other, ok := directories[p.Files.Directory]; ok {
			return fault.New(fault.Conflict, "placements %s and %s would share directory %s", other, p.Placement, quote(p.Files.Directory)).
				WithRemedy("give each a directory of its own")
		}
		directories[p.Files.Directory] = p.Placement
		if other, ok := targets[p.Target.Name]; ok {
			if field := differs(p.Target, other.Target); field != "" {
				return fault.New(fault.Conflict, "placements %s and %s name one target, %s, but differ in its %s", other.Placement, p.Placement, quote(p.Target.Name), field).
					WithRemedy("write the same in both, or give the processes two names")
			}
		}
		targets[p.Target.Name] = p
	}
	for _, p := range sorted {
		for parent := path.Dir(p.Files.Directory); parent != "/"; parent = path.Dir(parent) {
			if other, ok := directories[parent]; ok {
				return fault.New(fault.Conflict, "directory %s of placement %s is inside %s of placement %s", quote(p.Files.Directory), p.Placement, quote(parent), other).
					WithRemedy("give each a directory of its own")
			}
		}
	}
	return nil
}

// HostConflict is CheckHost as a finding about the intent, for a plan.
func HostConflict(intent Document, agent string, err error) Finding {
	return intent.Finding(Error, "spec.files.directory", "shared-directory", fmt.Sprintf("on agent %s: %v", agent, err), "")
}
