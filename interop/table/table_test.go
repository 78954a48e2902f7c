package table

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTallyTellsMedianAndWorst(t *testing.T) {
	tally := NewTally("redis")
	for _, ms := range []int{30, 10, 500, 20, 40} {
		tally.Served(time.Duration(ms) * time.Millisecond)
	}
	if row := tally.Row(); row.Median != 30 || row.Worst != 500 {
		t.Errorf("median %d, worst %d", row.Median, row.Worst)
	}
}

func TestRowIsSoundOnlyWithoutFailures(t *testing.T) {
	for _, row := range []Row{{Failed: 1}, {FalseProven: 1}, {FalseFailed: 1}} {
		if row.Sound() {
			t.Errorf("%+v is called sound", row)
		}
	}
	if !(Row{Requests: 9, Reconnects: 9}).Sound() {
		t.Error("reconnects are no failure")
	}
}

func TestReplaceTouchesOnePart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "targets.md")
	const before = "a\n<!-- measured: written by make docs-targets -->\nold\n<!-- end of measured -->\nz\n"
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, MeasuredPart, "new\n"); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(after) != strings.Replace(before, "old", "new", 1) {
		t.Errorf("%q", after)
	}
	if err := Replace(path, CapabilityPart, ""); err == nil {
		t.Error("a part without markers was replaced")
	}
}
