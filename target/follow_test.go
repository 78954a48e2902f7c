package target

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFollows(t *testing.T) {
	base := t.TempDir()
	at := Target{Name: "web", Directory: filepath.Join(base, "tls")}
	in := func(elem ...string) string { return filepath.Join(append([]string{base}, elem...)...) }
	for _, dir := range []string{"tls/rev-000001", "other/rev-000001", "links"} {
		if err := os.MkdirAll(in(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, to := range map[string]string{
		"tls/current":       "rev-000001",
		"other/current":     "rev-000001",
		"links/file":        in("tls/current/chain.pem"),
		"links/relative":    "../tls/current/chain.pem",
		"links/twice":       "relative",
		"links/dir":         "../tls/current",
		"links/above":       "../tls",
		"links/revision":    "../tls/current/../rev-000001/chain.pem",
		"links/behind":      in("tls/rev-000001"),
		"links/round":       "round",
		"links/through":     "behind/chain.pem",
		"links/other":       "../other/current/chain.pem",
		"links/outside":     in("tls/current"), // what is below leads on
		"tls/rev-000001/up": "..",
		"links/nowhere.pem": "nowhere",
	} {
		if err := os.Symlink(to, in(path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(in("tls/current/chain.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(in("tls/rev-000001/chain.pem"), in("hard.pem")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		in("tls/current/chain.pem"): true, in("tls/current") + "//chain.pem": true,
		in("links/file"): true, in("links/relative"): true, in("links/twice"): true,
		in("links/dir/chain.pem"): true, in("links/above/current/chain.pem"): true, in("links/outside/chain.pem"): true,
		in("tls/rev-000001/chain.pem"): false, in("links/above/rev-000001/chain.pem"): false,
		in("links/revision"): false, in("links/behind/chain.pem"): false, in("links/through"): false,
		in("links/other"): false, in("links/round"): false, in("links/nowhere.pem"): false,
		in("hard.pem"): false, in("tls/current/key.pem"): false, in("tls/current"): false,
		in("tls") + "/current/../rev-000001/chain.pem": false, in("tls/current/up/rev-000001/chain.pem"): false,
		"": false, "chain.pem": false, "/": false, "NULL": false,
	} {
		if got := at.follows(path, "chain.pem", "combined.pem"); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
	if !at.follows(in("links/dir/key.pem")) || at.follows(in("links/behind/key.pem")) || at.follows(in("links/dir/a/key.pem")) {
		t.Error("any file of the revision in use, and no other")
	}
	// A mount of the directory elsewhere can't be made here; the first revision
	// that has yet to come can.
	if to := (Target{Directory: "/none"}); !to.follows("/none/current/chain.pem", "chain.pem") || to.follows("/none/chain.pem") {
		t.Error("before the first revision")
	}
}
