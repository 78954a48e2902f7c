package rollout

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// TestTranscripts plays each script of testdata and compares what was done, and
// why the rest was not, with what is written there. Reasons are shown when they
// change.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w := newFleetWorld(t)
			var out strings.Builder
			for _, line := range strings.Split(strings.TrimSpace(string(archive.Files[0].Data)), "\n") {
				fmt.Fprintf(&out, "> %s\n", line)
				w.command(&out, strings.Fields(line))
			}
			if *update {
				archive.Files = []txtar.File{archive.Files[0], {Name: "steps", Data: []byte(out.String())}}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(archive.Files) < 2 || out.String() != string(archive.Files[1].Data) {
				t.Errorf("%s: the steps are now\n%s", file, out.String())
			}
		})
	}
}
