package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
)

const clusterDocuments = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: db}
spec: {owner: {team: shop, contact: shop@test.example, runbook: "https://test.example/db"}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: member}
spec: {lifetime: 24h, usages: [serverAuth, clientAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: names}
spec: {rules: [{name: own, effect: allow, when: 'service == "db"'}]}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: db}
spec:
  service: db
  selector: {role: db}
  profile: member
  bundle: BUNDLE
  identity: {dnsNames: ["{{ labels.host }}.db.test.example"]}
  target: {kind: etcd, name: etcd, cluster: CLUSTER, address: "127.0.0.1:2379", restartCommand: restart-etcd}
  files: {directory: /srv/db/tls}
`

func clusterOf(bundle, cluster string) string {
	return strings.NewReplacer("BUNDLE", bundle, "CLUSTER", cluster).Replace(clusterDocuments)
}

// free are the hosts that nothing holds.
func free(hosts []*host) (free []int) {
	for i, h := range hosts {
		if h.desired().Hold == "" {
			free = append(free, i)
		}
	}
	return free
}

// A new bundle, which takes a restart, reaches the members of a cluster one by
// one: the next goes when the one before is settled with it, not earlier.
func TestClusterTakesABundleMemberByMember(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("default", `"c1"`))
	var hosts []*host
	for i := range 3 {
		h := d.enrolHost(map[string]string{"role": "db", "host": fmt.Sprintf("h%d", i)})
		h.holds(1)
		hosts = append(hosts, h)
	}
	if got := free(hosts); len(got) != 3 {
		t.Fatalf("at first issuance only %v may go", got)
	}
	at := func(h *host, state api.State, bundle string) {
		t.Helper()
		report := &api.PlacementReport{State: state, Generation: 1, Revision: 1, Level: api.Level_LEVEL_DELIVERED, BundleDigest: bundle}
		if err := h.report(report); err != nil {
			t.Fatal(err)
		}
	}
	old := hosts[0].desired().BundleDigest
	for _, h := range hosts {
		at(h, api.State_STATE_STEADY, old)
	}
	anchor := string(pki.EncodeCertificatesPEM(found(t).Root().Raw))
	d.apply("apiVersion: rotunda/v1\nkind: Bundle\nmetadata: {name: both}\nspec:\n  anchors:\n  - authority: root\n  - pem: |\n      " +
		strings.ReplaceAll(strings.TrimSpace(anchor), "\n", "\n      ") + "\n---" + clusterOf("both", `"c1"`))
	wanted := hosts[0].desired().BundleDigest
	if wanted == old {
		t.Fatal("the bundle did not change")
	}

	for done := range 3 {
		var turn []int
		for _, i := range free(hosts) {
			if hosts[i].status().BundleDigest == old {
				turn = append(turn, i)
			}
		}
		if len(turn) != 1 {
			t.Fatalf("%d members have it, and of the others %v may go", done, turn)
		}
		next := turn[0]
		waiting := func(when string) {
			t.Helper()
			for i, h := range hosts {
				if i != next && h.status().BundleDigest == old && h.desired().Hold == "" {
					t.Errorf("%s on host %d, host %d may go too", when, next, i)
				}
			}
		}
		at(hosts[next], api.State_STATE_ROTATING, old)
		waiting("before the switch")
		at(hosts[next], api.State_STATE_ROTATING, wanted)
		waiting("after the switch, before the proof")
		at(hosts[next], api.State_STATE_FAILED, wanted)
		waiting("while it can't be proven")
		at(hosts[next], api.State_STATE_STEADY, wanted)
	}
	if got := free(hosts); len(got) != 3 {
		t.Errorf("after all have it, %v may go", got)
	}
}

// Processes that are no members of one cluster don't wait for each other.
func TestOthersTakeABundleAtOnce(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("default", `"c-{{ labels.host }}"`))
	var hosts []*host
	for i := range 2 {
		h := d.enrolHost(map[string]string{"role": "db", "host": fmt.Sprintf("h%d", i)})
		h.holds(1)
		hosts = append(hosts, h)
	}
	for _, h := range hosts {
		if err := h.report(&api.PlacementReport{State: api.State_STATE_STEADY, Generation: 1, Revision: 1, BundleDigest: h.desired().BundleDigest}); err != nil {
			t.Fatal(err)
		}
	}
	d.apply("apiVersion: rotunda/v1\nkind: Bundle\nmetadata: {name: other}\nspec:\n  anchors:\n  - pem: |\n      " +
		strings.ReplaceAll(strings.TrimSpace(string(pki.EncodeCertificatesPEM(found(t).Root().Raw))), "\n", "\n      ") + "\n---" + clusterOf("other", `"c-{{ labels.host }}"`))
	if got := free(hosts); len(got) != 2 {
		t.Errorf("only %v may go", got)
	}
}
