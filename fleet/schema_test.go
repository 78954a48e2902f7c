package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	yaml "go.yaml.in/yaml/v3"
)

func compileSchema(t testing.TB, content []byte) *jsonschema.Schema {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("rotunda.json", parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("rotunda.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// values reads the documents of a YAML file as an editor does.
func values(t testing.TB, content []byte) []any {
	t.Helper()
	roots, _, err := parseYAMLNodes(content)
	if err != nil {
		t.Fatal(err)
	}
	var all []any
	for _, root := range roots {
		stringDates(root)
		var value any
		if err := root.Decode(&value); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if value, err = jsonschema.UnmarshalJSON(bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		all = append(all, value)
	}
	return all
}

// stringDates lets dates stay text, as YAML 1.2 has them.
func stringDates(node *yaml.Node) {
	if node.Tag == "!!timestamp" {
		node.Tag = "!!str"
	}
	for _, child := range node.Content {
		stringDates(child)
	}
}

func TestSchemaAcceptsWhatIsParsed(t *testing.T) {
	schema := compileSchema(t, Schema())
	for _, content := range append(seeds(t), []byte(valid), []byte(templated)) {
		parse(t, string(content))
		for _, value := range values(t, content) {
			if err := schema.Validate(value); err != nil {
				t.Error(err)
			}
		}
	}
	// What is stored says all that it means; the schema takes that too.
	for _, d := range parse(t, string(allKinds)) {
		content, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		of, ok := KindSchema(d.Kind)
		if !ok {
			t.Fatalf("no schema of %s", d.Kind)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*jsonschema.Schema{schema, compileSchema(t, of)} {
			if err := s.Validate(value); err != nil {
				t.Errorf("%s: %v", d, err)
			}
		}
	}
}

// TestSchemaAndParserAgreeOnMutants changes each value of each example in
// several ways. The schema must refuse what the parser refuses, and accept
// what it accepts.
func TestSchemaAndParserAgreeOnMutants(t *testing.T) {
	schema := compileSchema(t, Schema())
	refused := 0
	for _, document := range values(t, allKinds) {
		for name, mutant := range mutants(document) {
			content, err := json.Marshal(mutant)
			if err != nil {
				t.Fatal(err)
			}
			again, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			_, parseErr := ParseJSON(content)
			schemaErr := schema.Validate(again)
			if (parseErr == nil) != (schemaErr == nil) {
				t.Errorf("%s: parser says %v, schema says %v\n%s", name, parseErr, schemaErr, content)
			}
			if parseErr != nil {
				refused++
			}
		}
	}
	if refused < 300 {
		t.Errorf("only %d mutants were refused", refused)
	}
}

// mutants yields a document with one value changed at a time.
func mutants(document any) map[string]any {
	all := make(map[string]any)
	var visit func(path string, value any, rebuild func(any) any)
	visit = func(path string, value any, rebuild func(any) any) {
		for name, other := range map[string]any{
			"null": nil, "number": 7, "true": true, "text": "no such value", "list": []any{"a b"}, "object": map[string]any{"unknown": "x"},
		} {
			all[fmt.Sprintf("%s becomes %s", path, name)] = rebuild(other)
		}
		switch value := value.(type) {
		case map[string]any:
			for key, item := range value {
				visit(path+"."+key, item, func(other any) any {
					copied := make(map[string]any)
					for k, v := range value {
						copied[k] = v
					}
					copied[key] = other
					return rebuild(copied)
				})
			}
			more := map[string]any{"zzz": "x"}
			for k, v := range value {
				more[k] = v
			}
			all[path+" has a field more"] = rebuild(more)
		case []any:
			for i, item := range value {
				visit(fmt.Sprintf("%s[%d]", path, i), item, func(other any) any {
					copied := append([]any(nil), value...)
					copied[i] = other
					return rebuild(copied)
				})
			}
		}
	}
	visit(document.(map[string]any)["kind"].(string), document, func(other any) any { return other })
	return all
}

func TestSchemaDescribesEachField(t *testing.T) {
	var schema struct {
		Defs map[string]struct {
			Description string
			Properties  map[string]struct{ Description string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	for name, definition := range schema.Defs {
		if definition.Description == "" {
			t.Errorf("%s has no description", name)
		}
		for field, property := range definition.Properties {
			if property.Description == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
	for _, kind := range Kinds() {
		if _, ok := schema.Defs[string(kind)]; !ok {
			t.Errorf("no schema of %s", kind)
		}
	}
	if _, ok := KindSchema("Nothing"); ok || strings.Contains(string(Schema()), "\\u003c") {
		t.Error("a schema of nothing, or escaped text")
	}
}
