package main

import (
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/probe"
)

// What became of each session from before is shown, and what is not as it
// should be is marked.
func TestTicketTable(t *testing.T) {
	taken := time.Now()
	lines := ticketTable([]probe.TicketResult{
		{Anchor: "aa", Protocol: "TLS 1.3", Taken: taken, Accepted: probe.Rejected, Error: "unknown authority"},
		{Anchor: "bb", Protocol: "TLS 1.3", Taken: taken, Resumed: true, Accepted: probe.Accepted},
		{Anchor: "cc", Protocol: "TLS 1.3", Taken: taken, Resumed: true, Accepted: probe.Silent},
		{Anchor: "dd", Protocol: "TLS 1.2", NoneGiven: true},
		{Anchor: "ee", Untaken: "the agent was started anew"},
	}).lines(&ui{})
	for i, want := range []string{"refused", "accepted ✗", "met with silence ✗", "none given", "not taken ✗"} {
		if row := lines[i+1]; !strings.Contains(row, want) || strings.Contains(row, "✗") != strings.Contains(want, "✗") {
			t.Errorf("row %q, want %s", row, want)
		}
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, "the agent was started anew") {
		t.Errorf("it does not say why: %q", last)
	}
}
