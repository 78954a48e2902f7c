package fleet

import (
	"reflect"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// fieldsOf maps the names of a spec type's fields to their indexes.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if name := fieldName(t.Field(i)); name != "" {
			fields[name] = i
		}
	}
	return fields
}

// fieldNames lists them in their order.
func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name := fieldName(t.Field(i)); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func contains(known []string, value string) bool { return slices.Contains(known, value) }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// shown is a path in a message.
func shown(path string) string {
	if path == "" {
		return "the document"
	}
	if runes := []rune(path); len(runes) > 160 {
		return string(runes[:160]) + "…"
	}
	return path
}

// describe says what a node is.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch node.Tag {
	case "!!int", "!!float":
		return "the number " + quote(node.Value)
	case "!!bool":
		return "the truth value " + quote(node.Value)
	case "!!null":
		return "nothing"
	case "!!str", "!!timestamp":
		return quote(node.Value)
	}
	return "a " + quote(node.Tag)
}

// suggestion names the known word that is nearest to what was written, or all
// of them when none is near.
func suggestion(written string, known []string) string {
	best, distance := "", 1+max(1, len(written)/2)
	for _, word := range known {
		if strings.EqualFold(word, written) {
			return "write " + word
		}
		if n := editDistance(strings.ToLower(written), strings.ToLower(word)); n < distance {
			best, distance = word, n
		}
	}
	if best == "" {
		return "write one of " + strings.Join(known, ", ")
	}
	return "write " + best + ", if that is meant; known are " + strings.Join(known, ", ")
}

// editDistance is the number of single bytes to insert, delete or replace.
func editDistance(a, b string) int {
	const most = 64
	a, b = a[:min(len(a), most)], b[:min(len(b), most)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
