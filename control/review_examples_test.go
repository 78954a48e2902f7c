package control

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
)

var (
	tokenLine  = regexp.MustCompile(`(?m)^#.* rotunda token create (--label .*)$`)
	tokenLabel = regexp.MustCompile(`--label ([a-z]+)=(\S+)`)
)

// Each example can be applied as it stands, to hosts whose tokens were made as
// its comments say: the policy allows the names, and each intent has a host.
func TestExamplesCanBeApplied(t *testing.T) {
	directories, err := filepath.Glob("../examples/*")
	if err != nil || len(directories) < 11 {
		t.Fatalf("%v, %v", directories, err)
	}
	for _, directory := range directories {
		switch name := filepath.Base(directory); name {
		case "tests", "hosts":
		default:
			t.Run(name, func(t *testing.T) { applyExample(t, directory) })
		}
	}
}

func applyExample(t *testing.T, path string) {
	files := exampleSources(t, path)
	d := found(t)
	hosts := 0
	for _, file := range files {
		for _, line := range tokenLine.FindAllStringSubmatch(string(file.Content), -1) {
			labels := map[string]string{}
			for _, label := range tokenLabel.FindAllStringSubmatch(line[1], -1) {
				labels[label[1]] = label[2]
			}
			d.enrolHost(labels)
			hosts++
		}
	}
	if hosts == 0 {
		t.Fatal("its comments make no token")
	}
	plan, err := d.Plan(t.Context(), operator, &api.PlanRequest{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range plan.Findings {
		// A control path is agent.yaml's, of which these hosts have none, and
		// the etcd example's own callers have no host in its comments.
		if finding.Severity == api.Finding_ERROR || finding.Rule != "control-path" && finding.Rule != "selects-nothing" {
			t.Errorf("%v", finding)
		}
	}
	begun := 0
	for _, difference := range plan.Differences {
		if strings.Contains(strings.Join(difference.Effects, "\n"), "begin: first issuance") {
			begun++
		}
	}
	if begun == 0 {
		t.Errorf("nothing would be issued to %d hosts: %v", hosts, plan.Differences)
	}
	if _, err := d.Apply(t.Context(), operator, &api.ApplyRequest{Files: files}); err != nil {
		t.Error(err)
	}
}

// exampleSources reads a file or directory of examples, with names and
// addresses that the tests' trust domain may sign.
func exampleSources(t *testing.T, path string) []*api.SourceFile {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(path, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		paths = []string{path}
	}
	suited := strings.NewReplacer("example.com", "test.example", "10.0.0.", "127.0.0.")
	var files []*api.SourceFile
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, &api.SourceFile{Path: path, Content: []byte(suited.Replace(string(content)))})
	}
	return files
}
