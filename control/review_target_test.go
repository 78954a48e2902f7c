package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/target"
)

const serverDocuments = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: cache}
spec: {owner: {team: shop, contact: shop@test.example, runbook: "https://test.example/cache"}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: cache}
spec: {lifetime: 24h, usages: [serverAuth, clientAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: names}
spec: {rules: [{name: own, effect: allow, when: 'service == "cache"'}]}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: cache}
spec:
  service: cache
  selector: {role: cache}
  profile: cache
  identity: {dnsNames: [cache.test.example]}
  target: {kind: KIND, name: cache, address: "127.0.0.1:7000"}
  files: {directory: /srv/cache, owner: root, group: cache, formats: [pem, combined]}
`

// serverOf is the documents of one server, with more said of its target.
func serverOf(kind, more string) string {
	return strings.NewReplacer("KIND", kind, `7000"`, `7000"`+more).Replace(serverDocuments)
}

// says makes an agent name its control paths, as its next connection would.
func (h *host) says(facts map[string]string) {
	h.domain.t.Helper()
	err := h.domain.db.Write(h.domain.t.Context(), func(tx *store.Tx) error {
		agent, err := tx.Agent(h.domain.t.Context(), h.id)
		if err != nil {
			return err
		}
		return tx.SetAgentBoot(h.domain.t.Context(), h.id, agent.Boot, agent.Boot+1, facts)
	})
	if err != nil {
		h.domain.t.Fatal(err)
	}
}

// ruled are the findings of a rule.
func ruled(plan *api.PlanResponse, rule string) []*api.Finding {
	var found []*api.Finding
	for _, finding := range plan.Findings {
		if finding.Rule == rule {
			found = append(found, finding)
		}
	}
	return found
}

func effectsOf(plan *api.PlanResponse, kind string) string {
	for _, difference := range plan.Differences {
		if difference.Kind == kind {
			return strings.Join(difference.Effects, "\n")
		}
	}
	return ""
}

// What a kind can't do, and what is done instead, is said before anything is.
func TestPlanSaysWhatATargetCannotDo(t *testing.T) {
	d := found(t)
	for _, c := range []struct{ name, kind, more, rule, finding, effect string }{
		{"CAs at a restart, and no command", "mosquitto", "", "needs-restart", "CA added, CA removed", ""},
		{"CAs at a restart by a command", "mosquitto", ", cluster: c, restartCommand: restart-it", "", "", "restart Mosquitto by restart-it, member by member: CA added, CA removed"},
		{"removal at a restart", "memcached", "", "needs-restart", "at its start only: CA removed.", ""},
		{"a restart of everything", "memcached", ", restartCommand: restart-it", "", "", "by restart-it, at once: it is in no cluster: CA removed"},
		{"etcd without a command", "etcd", ", cluster: c", "needs-restart", "etcd takes this at its start only", ""},
		{"all live", "redis", "", "", "", "clientAuth is not said"},
		{"nobody is asked", "redis", ", clientAuth: none", "", "", "nobody's trust to try"},
		{"all is tried", "redis", ", clientAuth: required", "", "", ""},
		{"ends connections", "nginx", ", clientAuth: required", "", "", "may end open connections"},
		{"a short chain", "nginx", ", clientAuth: required", "", "", "set 2 before a root is replaced"},
		{"takes what it gets", "rabbitmq", "", "", "", "does not look at what it loads"},
		{"nobody knows", "files", "", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := d.plan(serverOf(c.kind, c.more))
			for _, finding := range plan.Findings {
				if finding.Severity == api.Finding_ERROR {
					t.Fatal(finding)
				}
			}
			for _, rule := range []string{"needs-restart", "crl", "key-type", "control-path", "cluster"} {
				found := ruled(plan, rule)
				switch {
				case rule != c.rule && len(found) > 0:
					t.Errorf("an unexpected finding: %v", found)
				case rule == c.rule && (len(found) != 1 || !strings.Contains(found[0].Message, c.finding) || found[0].Remedy == ""):
					t.Errorf("findings of rule %s: %v, want one that says %q", rule, found, c.finding)
				}
			}
			effects := effectsOf(plan, "Intent")
			if !strings.Contains(effects, c.effect) || c.effect == "" && c.finding == "" && c.kind != "files" && effects != "" {
				t.Errorf("effects %q, want %q", effects, c.effect)
			}
		})
	}
}

func TestPlanSaysThatCRLsAreNeverRead(t *testing.T) {
	d := found(t)
	withCRL := strings.NewReplacer("clientAuth]}", "clientAuth], revocation: {crl: true}}")
	if found := ruled(d.plan(withCRL.Replace(serverOf("redis", ""))), "crl"); len(found) != 1 || !strings.Contains(found[0].Message, "Redis never reads any") {
		t.Errorf("redis: %v", found)
	}
	open := strings.NewReplacer("clientAuth]}", "clientAuth], revocation: {crl: true, onStale: open}}")
	if found := ruled(d.plan(open.Replace(serverOf("mosquitto", ""))), "crl"); len(found) != 1 || !strings.Contains(found[0].Message, "They stay, as with closed") {
		t.Errorf("mosquitto, open: %v", found)
	}
	if found := ruled(d.plan(open.Replace(serverOf("nginx", ""))), "crl"); len(found) != 0 {
		t.Errorf("nginx includes what names them: %v", found)
	}
	stapled := strings.NewReplacer("clientAuth]}", "clientAuth], revocation: {staple: true}}")
	if found := ruled(d.plan(stapled.Replace(serverOf("postgres", ""))), "staple"); len(found) != 1 || !strings.Contains(found[0].Message, "PostgreSQL staples none") {
		t.Errorf("postgres staples: %v", found)
	}
	if found := ruled(d.plan(withCRL.Replace(serverOf("nginx", ""))), "crl"); len(found) != 0 {
		t.Errorf("nginx reads CRLs: %v", found)
	}
	plan := d.plan(withCRL.Replace(serverOf("mosquitto", "")))
	if found := ruled(plan, "needs-restart"); len(found) != 1 || strings.Contains(found[0].Message, "CRL") {
		t.Errorf("mosquitto takes CAs at a restart, and CRLs by a reload: %v", found)
	}
}

// Another algorithm is said where the server takes it at a restart only, even
// if the files hold nothing but the profile.
func TestPlanSaysThatAKeyTypeNeedsARestart(t *testing.T) {
	d := found(t)
	const profile = "apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: cache}\nspec: {lifetime: 24h, usages: [serverAuth, clientAuth], algorithm: ecdsa-p384}\n"
	d.apply(serverOf("memcached", ""))
	if found := ruled(d.plan(serverOf("memcached", "")), "key-type"); len(found) != 0 {
		t.Errorf("nothing changes: %v", found)
	}
	if found := ruled(d.plan(profile), "key-type"); len(found) != 1 || !strings.Contains(found[0].Message, "is not served, and is put back") {
		t.Errorf("findings %v, want one of key-type", found)
	}
	d.apply(serverOf("memcached", ", restartCommand: restart-it"))
	plan := d.plan(profile)
	if found := ruled(plan, "key-type"); len(found) != 0 {
		t.Errorf("it has a restartCommand: %v", found)
	}
	if got := effectsOf(plan, "Profile"); !strings.Contains(got, "another key type, as now") {
		t.Errorf("effects of the profile: %q", got)
	}
	d.apply(serverOf("redis", ""))
	if found := ruled(d.plan(profile), "key-type"); len(found) != 0 {
		t.Errorf("redis takes it live: %v", found)
	}
}

func TestPlanFindsHostsWithoutAControlPath(t *testing.T) {
	d := found(t)
	var hosts []*host
	for range 3 {
		hosts = append(hosts, d.enrolHost(map[string]string{"role": "cache"}))
	}
	hosts[0].says(map[string]string{"hostname": "c0", "targets": "front=nginx,cache=redis"})
	hosts[1].says(map[string]string{"hostname": "c1", "targets": "front=nginx,cached=redis"})

	lacking := ruled(d.plan(serverOf("redis", "")), "control-path")
	if len(lacking) != 1 || lacking[0].Severity != api.Finding_WARNING {
		t.Fatalf("findings %v, want one warning", lacking)
	}
	for _, want := range []string{"target cache", "c1 (" + hosts[1].id + ")", hosts[2].id, "and the proof fails"} {
		if !strings.Contains(lacking[0].Message, want) {
			t.Errorf("message %q lacks %q", lacking[0].Message, want)
		}
	}
	if strings.Contains(lacking[0].Message, hosts[0].id) {
		t.Errorf("%q names the agent that has it", lacking[0].Message)
	}
	if !strings.Contains(lacking[0].Remedy, "targets: {cache: {kind: redis, address: /run/redis/redis-server.sock") {
		t.Errorf("remedy %q", lacking[0].Remedy)
	}
	if found := ruled(d.plan(serverOf("redis", ", reloadCommand: reload-it")), "control-path"); len(found) != 0 {
		t.Errorf("a reloadCommand will do: %v", found)
	}
	if found := ruled(d.plan(serverOf("redis", ", restartCommand: restart-it")), "control-path"); len(found) != 1 || !strings.Contains(found[0].Message, "each renewal restarts it by restart-it") {
		t.Errorf("by restarts: %v", found)
	}
	if found := ruled(d.plan(serverOf("etcd", "")), "control-path"); len(found) != 1 || found[0].Severity != api.Finding_ERROR {
		t.Errorf("etcd reloads nothing, so that none lacks a control path, and one is of another kind: %v", found)
	}

	// Another kind of server there is an error: nothing may be applied.
	other := ruled(d.plan(serverOf("nginx", "")), "control-path")
	if len(other) != 2 || other[0].Severity != api.Finding_ERROR || !strings.Contains(other[0].Message, `of kind "redis"`) || !strings.Contains(other[0].Message, hosts[0].id) {
		t.Errorf("findings %v, want an error and a warning", other)
	}
}

// A thousand hosts that lack the same are one finding.
func TestManyHostsAreOneFinding(t *testing.T) {
	var seats []seat
	for i := range 1000 {
		agent := store.Agent{ID: fmt.Sprintf("a%04d", i)}
		seats = append(seats, targetSeat(agent, "one"), targetSeat(agent, "two"))
	}
	if got, want := agentsOf(seats), "agents a0000, a0001, a0002, and 997 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := agentsOf(seats[:2]), "agent a0000"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	adapter, err := target.Lookup(fleet.TargetRedis)
	if err != nil {
		t.Fatal(err)
	}
	review := targetReview{Capabilities: adapter.Capabilities, intent: &fleet.Intent{}, seats: seats}
	if found := review.reviewControl(); len(found) != 1 || len(found[0].Message) > 400 {
		t.Errorf("%d findings, the first of %d bytes", len(found), len(found[0].Message))
	}
}

// Members that are restarted together are said; those of a cluster are not.
func TestPlanFindsMembersThatNobodyKeepsApart(t *testing.T) {
	d := found(t)
	d.enrolHost(map[string]string{"role": "cache"})
	if found := ruled(d.plan(serverOf("memcached", ", restartCommand: r")), "cluster"); len(found) != 0 {
		t.Errorf("one host: %v", found)
	}
	d.enrolHost(map[string]string{"role": "cache"})
	if found := ruled(d.plan(serverOf("memcached", ", restartCommand: r")), "cluster"); len(found) != 1 || !strings.Contains(found[0].Message, "on 2 agents") {
		t.Errorf("two hosts: %v", found)
	}
	if found := ruled(d.plan(serverOf("memcached", ", cluster: c, restartCommand: r")), "cluster"); len(found) != 0 {
		t.Errorf("a cluster: %v", found)
	}
}

// Each kind that has a control path has lines that give it one.
func TestEveryControlPathHasLines(t *testing.T) {
	for _, adapter := range target.Adapters() {
		if lines := ControlLines(adapter.Kind, "x"); (len(lines) > 0) != (adapter.Control != "") {
			t.Errorf("%s: lines %v for control path %q", adapter.Kind, lines, adapter.Control)
		}
	}
}
