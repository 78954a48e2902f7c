package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/probe"
)

// showEvidence shows one observation in full: what was looked at, what was
// served, and whom the server trusts.
func showEvidence(u *ui, e *api.EvidenceRecord) {
	u.say("%s  %s  by %s  %s", e.At.AsTime().Local().Format("2006-01-02 15:04:05"), e.Verdict, u.hosts.name(e.Observer), clip(e.Digest, 16))
	var seen probe.Observation
	if json.Unmarshal(e.Statement, &seen) != nil || seen.Outcome == "" {
		u.say("%s", indented(e.Statement)) // none of the kind that this version knows
		return
	}
	for _, line := range sheetLines(observationSheet(u, seen)) {
		u.say("    %s", line)
	}
	if len(seen.Trials) > 0 {
		u.say("    client certificates that were tried:")
		for _, line := range trialTable(seen.Trials).lines(&ui{colour: u.colour}) {
			fmt.Fprintf(u.out, "      %s\n", line) // its cells are printable
		}
	}
	if len(seen.Tickets) > 0 {
		u.say("    sessions from before an anchor was withdrawn:")
		for _, line := range ticketTable(seen.Tickets).lines(&ui{colour: u.colour}) {
			fmt.Fprintf(u.out, "      %s\n", line) // its cells are printable
		}
	}
}

func observationSheet(u *ui, seen probe.Observation) []field {
	looked := seen.Address
	if seen.ServerName != "" {
		looked += " as " + seen.ServerName
	}
	if seen.Preamble != "" {
		looked += ", speaking " + string(seen.Preamble)
	}
	took := (time.Duration(seen.LatencyMicros) * time.Microsecond).Round(100 * time.Microsecond)
	fields := []field{
		{"looked at", looked},
		{"outcome", fmt.Sprintf("%s, at %s, after %s", seen.Outcome, seen.Stage, took)},
		{"error", seen.Error},
	}
	if leaf := seen.Leaf; leaf != nil {
		fields = append(fields,
			field{"serial", leaf.Serial},
			field{"valid", leaf.NotBefore.Format(time.RFC3339) + " to " + leaf.NotAfter.Format(time.RFC3339)},
			field{"fingerprint", leaf.Fingerprint},
			field{"public key", leaf.SPKI})
	}
	var chain []string
	for _, fingerprint := range seen.Chain {
		chain = append(chain, clip(fingerprint, 16))
	}
	return append(fields,
		field{"chain", strings.Join(chain, " ← ")},
		field{"against the bundle", seen.Trust},
		field{"protocol", seen.Protocol}, field{"group", seen.Group}, field{"cipher", seen.Cipher},
		field{"would not speak", strings.Join(seen.RefusedProtocols, ", ")},
		field{"clients", clientWords(seen)},
		field{"issuers it names", strings.Join(seen.Authorities, "; ")},
		field{"itself says", seen.Says})
}

// clientWords are what the server made of its clients.
func clientWords(seen probe.Observation) string {
	words := []string{"asks for no certificate"}
	if seen.ClientAuth {
		words[0] = "asks for a certificate"
	}
	if seen.Sent != "" {
		words = append(words, fmt.Sprintf("ours (%s) was %s", clip(seen.Sent, 16), acceptance(seen.Accepted)))
	}
	if seen.WithoutCertificate != probe.NotKnown {
		words = append(words, "one without was "+acceptance(seen.WithoutCertificate))
	}
	return strings.Join(words, "; ")
}

func acceptance(a probe.Acceptance) string {
	switch a {
	case probe.Accepted:
		return "accepted"
	case probe.Rejected:
		return "refused"
	case probe.Silent:
		return "met with silence"
	}
	return "not seen to the end"
}

// trialTable holds each trial beside what should have come of it.
func trialTable(trials []probe.TrialResult) *table {
	t := newTable("UNDER", "SHOULD BE", "WAS", "IN ITS WORDS")
	for _, trial := range trials {
		wanted, was := "refused", cell{acceptance(trial.Accepted), good}
		if trial.Expected {
			wanted = "accepted"
		}
		if trial.Sent == "" {
			was.text = "not asked for"
		}
		// Silence is no refusal, and of one that should be accepted no fault.
		if right := trial.Accepted == probe.Rejected; trial.Sent == "" || right == trial.Expected {
			was = cell{was.text + " ✗", bad}
		}
		t.row(trial.Name, wanted, was, trial.Error)
	}
	return t
}

// ticketTable holds what became of each session that has to be refused.
func ticketTable(tickets []probe.TicketResult) *table {
	t := newTable("ANCHOR", "OVER", "TAKEN", "WAS", "IN ITS WORDS")
	for _, ticket := range tickets {
		taken, was, words := "–", cell{acceptance(ticket.Accepted), good}, ticket.Error
		switch {
		case ticket.NoneGiven:
			was.text = "none given"
		case ticket.Untaken != "":
			was.text, words = "not taken", ticket.Untaken
		default:
			taken = ticket.Taken.Local().Format("15:04:05")
		}
		if !ticket.Shown() {
			was = cell{was.text + " ✗", bad}
		}
		t.row(clip(ticket.Anchor, 16), ticket.Protocol, taken, was, words)
	}
	return t
}
