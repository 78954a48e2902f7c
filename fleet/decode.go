package fleet

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// decoder fills documents from nodes. It knows the fields from the json tags
// of the spec types, and notes the line of each field.
type decoder struct {
	file     string
	findings []Finding
	budget   int // values that may still be read from the file

	about  string          // "Kind/name" of the document being read
	lines  map[string]int  // where its fields stand
	broken map[string]bool // the fields that were reported
}

// enumeration is a string type with a few known values.
type enumeration interface{ values() []string }

// adviser is an enumeration that has a word for those who looked for a value
// that is not there.
type adviser interface{ advice() string }

// known is the remedy for a value that is none of an enumeration's.
func known(of enumeration, written string) string {
	remedy := suggestion(written, of.values())
	if a, ok := of.(adviser); ok {
		remedy += "; " + a.advice()
	}
	return remedy
}

// report notes what is wrong with the field at a path.
func (d *decoder) report(path string, line int, rule, remedy, format string, args ...any) {
	if d.broken != nil && path != "" {
		d.broken[path] = true
	}
	if len(d.findings) > maxFindings {
		return
	}
	f := Finding{
		Severity: Error, Position: Position{d.file, line}, Document: d.about,
		Rule: rule, Message: fmt.Sprintf(format, args...), Remedy: remedy,
	}
	if len(d.findings) == maxFindings {
		f.Document, f.Rule, f.Remedy = "", "too-many", "mend these first"
		f.Message = fmt.Sprintf("the file has more than %d faults; the rest is not listed", maxFindings)
	}
	d.findings = append(d.findings, f)
}

// document reads one document. It returns false when there is nothing that
// could be validated further.
func (d *decoder) document(root *yaml.Node) (Document, bool) {
	d.about, d.lines, d.broken = "", make(map[string]int), make(map[string]bool)
	var head struct {
		APIVersion string    `json:"apiVersion"`
		Kind       Kind      `json:"kind"`
		Metadata   metadata  `json:"metadata"`
		Spec       yaml.Node `json:"spec"`
	}
	if !d.value(root, "", reflect.ValueOf(&head).Elem(), 0) {
		return Document{}, false
	}
	d.about = string(head.Kind) + "/" + string(head.Metadata.Name)
	line := root.Line
	known := true
	if head.APIVersion != APIVersion {
		d.report("apiVersion", d.at("apiVersion", line), "api-version", "write apiVersion: "+APIVersion, "apiVersion is %s; it must be %q", quote(head.APIVersion), APIVersion)
	}
	spec, ok := newSpec(head.Kind)
	if !ok {
		known = false
		d.report("kind", d.at("kind", line), "unknown-kind", suggestion(string(head.Kind), kindNames()), "kind is %s", quote(string(head.Kind)))
	}
	if head.Metadata.Name == "" {
		known = false
		if _, given := d.lines["metadata.name"]; !given {
			d.report("metadata.name", d.at("metadata", line), "required", "write metadata: {name: …}", "metadata.name is missing")
		}
	}
	if !ok {
		return Document{}, false
	}
	if head.Spec.Kind == 0 {
		d.report("spec", line, "required", "write spec: and what it holds", "spec is missing")
		return Document{}, false
	}
	d.value(&head.Spec, "spec", reflect.ValueOf(spec).Elem(), 1)
	if c, ok := spec.(completer); ok {
		c.complete(func(path string) bool { _, given := d.lines[path]; return given })
	}
	return Document{head.Kind, head.Metadata.Name, spec, Position{d.file, line}, d.lines, d.broken}, known
}

func (d *decoder) at(path string, otherwise int) int {
	if line, ok := d.lines[path]; ok {
		return line
	}
	return otherwise
}

func kindNames() []string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k))
	}
	return names
}

// value reads a node into a field, and says whether it could.
func (d *decoder) value(node *yaml.Node, path string, into reflect.Value, depth int) bool {
	if len(d.findings) > maxFindings {
		return false
	}
	line := node.Line
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if d.budget--; d.budget < 0 || depth > maxDepth {
		if d.budget == -1 || depth > maxDepth {
			d.report(path, line, "too-complex", "simplify the document", "%s: the file has more than %d values, or values more than %d deep", shown(path), maxNodes, maxDepth)
		}
		return false
	}
	if raw, ok := into.Addr().Interface().(*yaml.Node); ok {
		*raw = *node
		return true
	}
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		d.report(path, line, "type", "give it a value, or leave it out", "%s has no value", shown(path))
		return false
	}
	if text, ok := into.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return d.text(node, path, line, text)
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return d.value(node, path, into.Elem(), depth)
	case reflect.Struct:
		return d.structure(node, path, into, depth)
	case reflect.Map:
		return d.mapping(node, path, into, depth)
	case reflect.Slice:
		return d.sequence(node, path, into, depth)
	}
	return d.scalar(node, path, line, into)
}

func (d *decoder) structure(node *yaml.Node, path string, into reflect.Value, depth int) bool {
	fields := fieldsOf(into.Type())
	return d.pairs(node, path, depth, func(key string, line int, value *yaml.Node) {
		index, ok := fields[key]
		if !ok {
			d.report("", line, "unknown-field", suggestion(key, fieldNames(into.Type())), "%s is not a field", shown(join(path, key)))
			return
		}
		d.value(value, join(path, key), into.Field(index), depth+1)
	})
}

func (d *decoder) mapping(node *yaml.Node, path string, into reflect.Value, depth int) bool {
	into.Set(reflect.MakeMap(into.Type()))
	return d.pairs(node, path, depth, func(key string, _ int, value *yaml.Node) {
		element := reflect.New(into.Type().Elem()).Elem()
		if d.value(value, join(path, key), element, depth+1) {
			into.SetMapIndex(reflect.ValueOf(key), element)
		}
	})
}

// pairs calls visit for each key of a mapping, once.
func (d *decoder) pairs(node *yaml.Node, path string, depth int, visit func(key string, line int, value *yaml.Node)) bool {
	if node.Kind != yaml.MappingNode {
		d.report(path, node.Line, "type", "write fields under it", "%s must be a mapping, not %s", shown(path), describe(node))
		return false
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag != "!!str" {
			remedy := "quote it"
			if key.Tag == "!!merge" {
				remedy = "write the fields out"
			}
			d.report("", key.Line, "type", remedy, "%s: a key must be a string, not %s", shown(path), describe(key))
			continue
		}
		if earlier, ok := seen[key.Value]; ok {
			d.report("", key.Line, "duplicate-key", "remove one of the two", "%s is given already in line %d", shown(join(path, key.Value)), earlier)
			continue
		}
		seen[key.Value] = key.Line
		d.lines[join(path, key.Value)] = key.Line
		visit(key.Value, key.Line, node.Content[i+1])
	}
	return true
}

func (d *decoder) sequence(node *yaml.Node, path string, into reflect.Value, depth int) bool {
	if node.Kind != yaml.SequenceNode {
		d.report(path, node.Line, "type", "write it as a list: [a, b]", "%s must be a list, not %s", shown(path), describe(node))
		return false
	}
	list := reflect.Zero(into.Type()) // nil, as a list that is absent
	for i, item := range node.Content {
		element := reflect.New(into.Type().Elem()).Elem()
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = item.Line
		if d.value(item, at, element, depth+1) {
			list = reflect.Append(list, element)
		}
	}
	into.Set(list)
	return true
}

func (d *decoder) text(node *yaml.Node, path string, line int, into encoding.TextUnmarshaler) bool {
	if node.Kind == yaml.ScalarNode {
		if err := into.UnmarshalText([]byte(node.Value)); err != nil {
			d.report(path, line, "value", "", "%s: %v", shown(path), err)
			return false
		}
	}
	return d.isString(node, path, line)
}

func (d *decoder) scalar(node *yaml.Node, path string, line int, into reflect.Value) bool {
	switch into.Kind() {
	case reflect.Bool:
		if node.Kind != yaml.ScalarNode || node.Tag != "!!bool" {
			d.report(path, line, "type", "write true or false", "%s must be true or false, not %s", shown(path), describe(node))
			return false
		}
		into.SetBool(strings.EqualFold(node.Value, "true"))
	case reflect.Float64:
		number, err := strconv.ParseFloat(node.Value, 64)
		if node.Kind != yaml.ScalarNode || node.Tag != "!!float" && node.Tag != "!!int" || err != nil {
			d.report(path, line, "type", "write a decimal number", "%s must be a number, not %s", shown(path), describe(node))
			return false
		}
		into.SetFloat(number)
	case reflect.Int:
		number, err := strconv.ParseInt(node.Value, 0, 32)
		if node.Kind != yaml.ScalarNode || node.Tag != "!!int" || err != nil {
			d.report(path, line, "type", "write a whole number", "%s must be a whole number, not %s", shown(path), describe(node))
			return false
		}
		into.SetInt(number)
	case reflect.String:
		if !d.isString(node, path, line) {
			return false
		}
		if all, ok := into.Interface().(enumeration); ok && !contains(all.values(), node.Value) {
			d.report(path, line, "value", known(all, node.Value), "%s is %s", shown(path), quote(node.Value))
			return false
		}
		into.SetString(node.Value)
	default:
		panic("fleet: spec types hold no " + into.Kind().String())
	}
	return true
}

func (d *decoder) isString(node *yaml.Node, path string, line int) bool {
	switch {
	case node.Kind == yaml.ScalarNode && (node.Tag == "!!str" || node.Tag == "!!timestamp"):
		return true
	case node.Kind == yaml.ScalarNode:
		d.report(path, line, "type", fmt.Sprintf("quote it: %q", node.Value), "%s must be a string, not %s", shown(path), describe(node))
	default:
		d.report(path, line, "type", "write one value", "%s must be a string, not %s", shown(path), describe(node))
	}
	return false
}
