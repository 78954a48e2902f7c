package reconcile_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleettest"
)

const cluster = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: cache}
spec: {owner: {team: t, contact: c, runbook: "https://test.example"}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: member}
spec: {lifetime: 24h, usages: [serverAuth]}
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
  profile: member
  identity: {dnsNames: ["{{ labels.host }}.fleet.example"]}
  target: {kind: files, cluster: c1}
  files: {directory: "TREE/{{ labels.host }}"}
  proof: {level: delivered}
`

// Real agents of a cluster, all asked to rotate at one moment, do so by slots:
// each ends before the next one is granted, and time passes while the loop
// looks on.
func TestClusterRotatesBySlots(t *testing.T) {
	p := fleettest.NewPlane(t)
	const members = 3
	root := t.TempDir()
	for i := range members {
		host := p.NewHost(map[string]string{"role": "cache", "host": fmt.Sprint("h", i)})
		host.Config.Allow.Directories = []string{root}
		host.Start()
	}
	p.Apply(strings.ReplaceAll(cluster, "TREE", root))
	p.Await("first issuance", fleettest.Steady(members, 1))
	_, err := p.Rotate(t.Context(), fleettest.Operator, &api.RotateRequest{All: true, Over: durationpb.New(0)})
	if err != nil {
		t.Fatal(err)
	}
	p.Await("all rotated", fleettest.Steady(members, 2))
	var slots []*api.SlotInfo
	p.Await("all slots over", func([]*api.PlacementStatus) bool {
		list, err := p.ListSlots(t.Context(), fleettest.Operator, &api.ListSlotsRequest{Ended: true})
		if err != nil {
			t.Fatal(err)
		}
		slots = list.Slots
		for _, slot := range slots {
			if slot.State != "ended" {
				return false
			}
		}
		return len(slots) == members
	})
	for i, one := range slots {
		for _, other := range slots[:i] {
			if span(one).overlaps(span(other)) {
				t.Errorf("slots %v and %v were held together", one, other)
			}
		}
	}
}

type heldFor struct{ from, to time.Time }

func span(slot *api.SlotInfo) heldFor {
	return heldFor{slot.GrantedAt.AsTime(), slot.EndedAt.AsTime()}
}

func (h heldFor) overlaps(other heldFor) bool {
	return h.from.Before(other.to) && other.from.Before(h.to)
}
