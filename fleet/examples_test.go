package fleet

import "testing"

// TestExamples holds that what the README leads to is without a finding, each
// directory by itself.
func TestExamples(t *testing.T) {
	sets := map[string][]Document{}
	for _, file := range exampleFiles(t) {
		documents, findings := ParseFiles([]File{file})
		for _, f := range findings {
			t.Error(f)
		}
		set := "first"
		if file.Path != "../examples/first.yaml" {
			set = "etcd"
		}
		sets[set] = append(sets[set], documents...)
	}
	for name, documents := range sets {
		for _, f := range Validate(NewSet(documents...)) {
			t.Errorf("%s: %s", name, f)
		}
	}
}
