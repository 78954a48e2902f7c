package control

import (
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
)

// anOutsider is a partner that calls orders.
const anOutsider = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: orders}
spec: {owner: {team: shop, contact: shop@test.example, runbook: "https://test.example/orders"}, clients: [bank]}
---
apiVersion: rotunda/v1
kind: Service
metadata: {name: bank}
spec: {owner: {team: bank, contact: desk@bank.example}, outside: true}
`

const askedBank = `
apiVersion: rotunda/v1
kind: Exception
metadata: {name: asked}
spec: {rule: trust-adopt, subject: service/bank, owner: ann, until: 2099-01-01, reason: they said so}
`

// An outside party holds a change up; turned back before anything was signed, it
// has nothing to answer: it is shown what it always was. Once something was
// signed, it may have let go of the old root.
func TestTurningBackAsksNobodyInVain(t *testing.T) {
	for name, signed := range map[string]bool{"nothing signed": false, "signed": true} {
		t.Run(name, func(t *testing.T) {
			d := found(t)
			host := d.parties(1)[0]
			d.apply(anOutsider)
			d.begin("root", "drain")
			for d.act() {
			}
			host.follow()
			for d.act() {
			}
			waitsFor(t, d, "prove", "outside party bank")
			if signed {
				d.apply(askedBank)
				d.act()
				d.removeException(t)
			}
			if err := d.decideTrust("back", "", "it was an error"); err != nil {
				t.Fatal(err)
			}
			for range 40 {
				if d.change().EndedAt != nil {
					break
				}
				if !d.act() {
					host.follow()
				}
			}
			if ended := d.change().EndedAt != nil; ended == signed {
				t.Errorf("it ended: %v; it waits for %v", ended, d.change().Waits)
			}
			trusted(t, d, []*party{host})
		})
	}
}

func (d *domain) removeException(t *testing.T) {
	t.Helper()
	if _, err := d.DeleteDocument(t.Context(), operator, &api.DeleteDocumentRequest{Kind: "Exception", Name: "asked"}); err != nil {
		t.Fatal(err)
	}
}

// An exception of a service lets the certificates of its placements stand, as one
// of the placement, of its intent and of its host does.
func TestExceptionsOfDrain(t *testing.T) {
	d := found(t)
	host := d.parties(1)[0]
	d.begin("root", "drain")
	for d.act() {
	}
	host.adopt()
	for d.act() {
	}
	excused := func(subject string) bool {
		d.apply(strings.NewReplacer("trust-adopt", "trust-drain", "service/bank", subject).Replace(askedBank))
		for _, holder := range d.change().Holders {
			if holder.PlacementId == host.placement {
				return holder.Excused != ""
			}
		}
		t.Fatalf("%s: no holder", subject)
		return false
	}
	for subject, want := range map[string]bool{
		"service/orders": true, "service/web": false, "intent/orders-tls": true, "agent/" + host.id: true, "placement/" + host.placement: true,
	} {
		if got := excused(subject); got != want {
			t.Errorf("an exception of %s excuses it: %v", subject, got)
		}
	}
}

// What excuses nobody is said when it is planned.
func TestExceptionsThatExcuseNobody(t *testing.T) {
	d := found(t)
	host := d.parties(1)[0]
	for change, words := range map[[2]string]string{
		{"service/bank", "service/orders"}:              "",
		{"service/bank", "agent/" + host.id}:            "",
		{"service/bank", "placement/" + host.placement}: "",
		{"service/bank", "operator/ann"}:                "",
		{"service/bank", "service/gohst"}:               "there is no service/gohst",
		{"service/bank", "agent/db-7"}:                  "there is no agent/db-7",
		{"service/bank", "placement/" + newID()}:        "there is no placement/",
		{"service/bank", "db-7"}:                        "db-7 is no subject",
		{"trust-adopt", "trust-adpot"}:                  "there is no rule trust-adpot",
		{"2099-01-01", "2020-01-01"}:                    "it is over since 2020-01-01 00:00",
	} {
		text := strings.Replace(askedBank, change[0], change[1], 1)
		if change[0] != "service/bank" {
			text = strings.Replace(text, "service/bank", "service/orders", 1)
		}
		var said []string
		for _, finding := range d.plan(text).Findings {
			if finding.Rule == "excuses-nobody" {
				if finding.Severity != api.Finding_WARNING || finding.Remedy == "" || finding.Line == 0 {
					t.Errorf("%v: %v", change, finding)
				}
				said = append(said, strings.ReplaceAll(finding.Message, `"`, ""))
			}
		}
		if words == "" && len(said) > 0 || words != "" && (len(said) != 1 || !strings.Contains(said[0], words)) {
			t.Errorf("%v: %q, not %q", change, said, words)
		}
	}
}
