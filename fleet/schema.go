package fleet

import (
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strings"
)

// schemaDialect is the version of JSON Schema that is exported.
const schemaDialect = "https://json-schema.org/draft/2020-12/schema"

// Schema is the JSON Schema of a document of any kind. It accepts all that
// ParseFiles accepts; what depends on several fields is Validate's to refuse.
func Schema() []byte {
	definitions := newSchemaSet()
	var conditions, names []any
	for _, kind := range Kinds() {
		definitions.kind(kind)
		names = append(names, string(kind))
		conditions = append(conditions, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"kind": map[string]any{"const": string(kind)}}},
			"then": map[string]any{"properties": map[string]any{"spec": reference(string(kind))}},
		})
	}
	schema := envelope(map[string]any{"enum": names}, map[string]any{})
	schema["title"] = "Rotunda document"
	schema["allOf"] = conditions
	schema["$defs"] = definitions.types
	return encodeSchema(schema)
}

// KindSchema is the JSON Schema of the documents of one kind, or false when
// there is no such kind.
func KindSchema(kind Kind) ([]byte, bool) {
	definitions := newSchemaSet()
	if !definitions.kind(kind) {
		return nil, false
	}
	schema := envelope(map[string]any{"const": string(kind)}, reference(string(kind)))
	schema["title"] = "Rotunda " + string(kind)
	schema["description"] = definitions.manual[string(kind)]
	schema["$defs"] = definitions.types
	return encodeSchema(schema), true
}

// envelope is the schema of what all documents have.
func envelope(kind, spec any) map[string]any {
	return map[string]any{
		"$schema":              schemaDialect,
		"type":                 "object",
		"additionalProperties": false,
		"required":             []string{"apiVersion", "kind", "metadata", "spec"},
		"properties": map[string]any{
			"apiVersion": map[string]any{"const": APIVersion},
			"kind":       kind,
			"metadata": map[string]any{
				"type":                 "object",
				"additionalProperties": false,
				"required":             []string{"name"},
				"properties":           map[string]any{"name": map[string]any{"type": "string", "pattern": namePattern}},
			},
			"spec": spec,
		},
	}
}

func encodeSchema(schema any) []byte {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schema); err != nil {
		panic("fleet: a schema of strings and maps does not encode: " + err.Error())
	}
	return []byte(out.String())
}

func reference(name string) map[string]any { return map[string]any{"$ref": "#/$defs/" + name} }

// schemaSet is the schemas of the spec types, by the types' names.
type schemaSet struct {
	types  map[string]any
	manual map[string]string
}

func newSchemaSet() schemaSet { return schemaSet{make(map[string]any), Manual()} }

func (s schemaSet) kind(kind Kind) bool {
	spec, ok := newSpec(kind)
	if ok {
		s.of(reflect.TypeOf(spec).Elem())
	}
	return ok
}

// of returns the schema of values of a type.
func (s schemaSet) of(t reflect.Type) map[string]any {
	zero := reflect.New(t)
	if pattern, ok := patterns()[t]; ok {
		return map[string]any{"type": "string", "minLength": 1, "pattern": pattern}
	}
	if _, ok := zero.Interface().(encoding.TextUnmarshaler); ok {
		panic("fleet: the schema has no pattern of " + t.Name())
	}
	if known, ok := zero.Elem().Interface().(enumeration); ok {
		return map[string]any{"enum": known.values()}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		s.structure(t)
		return reference(t.Name())
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer", "minimum": math.MinInt32, "maximum": math.MaxInt32}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	}
	return map[string]any{"type": "string"}
}

func (s schemaSet) structure(t reflect.Type) {
	if _, done := s.types[t.Name()]; done {
		return
	}
	properties := make(map[string]any)
	s.types[t.Name()] = map[string]any{
		"type":                 "object",
		"description":          s.manual[t.Name()],
		"additionalProperties": false,
		"properties":           properties,
	}
	for i := range t.NumField() {
		field := s.of(t.Field(i).Type)
		field["description"] = s.manual[t.Name()+"."+t.Field(i).Name]
		properties[fieldName(t.Field(i))] = field
	}
}

// patterns are the forms of the types that read themselves from text.
func patterns() map[reflect.Type]string {
	return map[reflect.Type]string{
		reflect.TypeFor[Name]():     namePattern,
		reflect.TypeFor[Duration](): durationPattern,
		reflect.TypeFor[Clock]():    clockPattern,
		reflect.TypeFor[Instant]():  instantPattern,
		reflect.TypeFor[Mode]():     modePattern,
	}
}
