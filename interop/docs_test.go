package interop

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/interop/table"
)

const document = "../docs/targets.md"

var write = flag.Bool("write", false, "write what the suite counted to docs/targets.md")

// TestDocumentSaysWhatTheTableSays holds the written part of docs/targets.md
// against the adapters.
func TestDocumentSaysWhatTheTableSays(t *testing.T) {
	if *write {
		if err := table.Replace(document, table.CapabilityPart, table.Capabilities()); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	part, err := table.Part(string(content), table.CapabilityPart)
	if err != nil {
		t.Fatal(err)
	}
	if part != table.Capabilities() {
		t.Error("docs/targets.md does not say what the adapters' table says: run `make docs-targets`, or for this part alone: cd interop && go test -run TestDocument -args -write")
	}
	if _, err := table.Part(string(content), table.MeasuredPart); err != nil {
		t.Error(err)
	}
}

// measured is what a run counted, for docs.
func measured(rows *table.Rows, took time.Duration) string {
	return fmt.Sprintf("\nRun of %s, %d cores, %s, Go %s.\n\n%s\n", time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(),
		took.Round(time.Second), runtime.Version()[2:], rows.Markdown())
}
