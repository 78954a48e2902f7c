package fleet

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestExamples holds that what the README leads to is without a finding: each
// directory by itself, and all of them as one fleet.
func TestExamples(t *testing.T) {
	sets := map[string][]Document{}
	for _, file := range exampleFiles(t) {
		documents, findings := ParseFiles([]File{file})
		for _, f := range findings {
			t.Error(f)
		}
		path, err := filepath.Rel("../examples", file.Path)
		if err != nil {
			t.Fatal(err)
		}
		set, _, _ := strings.Cut(path, "/")
		sets[set] = append(sets[set], documents...)
		sets["all"] = append(sets["all"], documents...)
	}
	for name, documents := range sets {
		if set := NewSet(documents...); len(set) != len(documents) {
			t.Errorf("%s: %d documents have %d names", name, len(documents), len(set))
		}
		for _, f := range Validate(NewSet(documents...)) {
			t.Errorf("%s: %s", name, f)
		}
	}
	for _, kind := range TargetKind("").values() {
		if _, ok := sets[kind]; !ok && kind != string(TargetFiles) {
			t.Errorf("there is no example of kind %s", kind)
		}
	}
}
