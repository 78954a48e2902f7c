package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func (d *domain) foretoldProfile(document string) (*api.WhatIfResponse, error) {
	return d.WhatIf(d.t.Context(), operator, &api.WhatIfRequest{Change: "profile:p.yaml", Profile: []byte(document)})
}

func profileOf(spec string) string {
	return "apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: server}\nspec: {" + spec + "}\n"
}

// What a profile would do is told of what the store shows, nothing changes, and
// what it tells is what applying it does.
func TestWhatIfProfile(t *testing.T) {
	d := found(t)
	d.apply(cached)
	orders, web := d.enrolHost(map[string]string{"role": "orders", "host": "a"}), d.enrolHost(map[string]string{"role": "web"})
	leaf := orders.holds(1)
	orders.here(&api.PlacementReport{Generation: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN, Evidence: orders.observed(leaf)})
	web.here(&api.PlacementReport{Revision: 1, Level: api.Level_LEVEL_LOADED})
	cache, entries := "orders-tls on agent "+orders.id, len(d.entries())
	const noPath = "perhaps Intent/orders-tls agent.yaml names no control path to target cache"
	for name, test := range map[string]struct {
		spec    string
		phases  []string
		figures []string
		says    []string // obstacles, stops, breaks
		ask     int
	}{
		"nothing but time": {
			"lifetime: 12h, usages: [serverAuth]", []string{"renewals"},
			[]string{"lifetime 24h 12h", "renewed after 12h to 20h 6h to 10h", "rides out 4h 2h", "issuances a day 1.5 3.0"}, []string{noPath}, 1,
		},
		"another key": {
			"algorithm: ecdsa-p384, lifetime: 24h, usages: [serverAuth]", []string{"apply"}, []string{"key ecdsa-p256 ecdsa-p384", "issuances a day 1.5 1.5"},
			[]string{
				"certain " + cache + " memcached takes a key of another type at its start only: what is renewed is not served, and is put back",
				"perhaps outside party bank is an outside party: nobody here sees whether it verifies an ecdsa-p384 key",
				"perhaps web meets no ecdsa-p384 key yet: nothing here shows that it verifies one",
			}, 3,
		},
		"no server any more": {
			"lifetime: 24h, usages: [clientAuth]", []string{"apply"}, []string{"usages serverAuth clientAuth", "issuances a day 1.5 1.5"},
			[]string{"breaks web orders would have 1 certificate without serverAuth, and serves it: web refuses that"}, 3,
		},
		"longer than its authority": {
			"lifetime: 3500d, usages: [serverAuth]", []string{"renewals"}, nil,
			[]string{"certain issuing ends at", "certificates of 3500d would be cut short to"}, 1,
		},
		"as it is": {"lifetime: 24h, usages: [serverAuth]", []string{"renewals"}, []string{"issuances a day 1.5 1.5"}, []string{noPath}, 1},
		"arithmetic": {
			"lifetime: 24h, rideOut: 20h, usages: [serverAuth]", nil, nil, []string{"stops Profile/server: certificates must be renewed 20h before their end"}, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			told, err := d.foretoldProfile(profileOf(test.spec))
			if err != nil {
				t.Fatal(err)
			}
			var figures, says []string
			for _, one := range told.Figures {
				figures = append(figures, strings.TrimSpace(one.What+" "+one.Before+" "+one.After))
			}
			for _, one := range told.Stops {
				says = append(says, "stops "+one)
			}
			for _, one := range told.Breaks {
				for _, reason := range one.Reasons {
					says = append(says, "breaks "+one.Client+" "+reason.Text)
				}
			}
			for _, one := range told.Obstacles {
				says = append(says, map[bool]string{true: "certain ", false: "perhaps "}[one.Certain]+one.Who+" "+one.Reason)
			}
			if got := namedPhases(told); !slices.Equal(got, test.phases) {
				t.Errorf("phases %v, want %v", got, test.phases)
			}
			if test.figures != nil && !slices.Equal(figures, test.figures) {
				t.Errorf("figures %q, want %q", figures, test.figures)
			}
			for _, want := range test.says {
				if !strings.Contains(strings.Join(says, "\n"), want) {
					t.Errorf("it says\n%s\nwant %s", strings.Join(says, "\n"), want)
				}
			}
			if test.says[0] == noPath && len(says) > 1 {
				t.Errorf("it says\n%s", strings.Join(says, "\n"))
			}
			if len(told.Uses) != 1 || told.Uses[0].Intent != "orders-tls" || told.Uses[0].Placements != 1 {
				t.Errorf("uses %v", told.Uses)
			}
			if len(told.Stops) == 0 && len(told.Ask) < test.ask {
				t.Errorf("ask %v", told.Ask)
			}
		})
	}
	if len(d.entries()) != entries || orders.desired().Profile.Lifetime.AsDuration().Hours() != 24 {
		t.Error("something changed")
	}
}

// The placements that it says rotate at once are those that rotate when it is
// applied, and a placement with an override is not among them.
func TestWhatIfProfileAgreesWithApply(t *testing.T) {
	d, hosts := profiled(t, 4)
	if _, err := d.try("bigger", map[string]string{"shard": "0"}, "100%"); err != nil {
		t.Fatal(err)
	}
	d.advance()
	wantDesired(t, hosts, "bigger:2 server:2")
	document := profileOf("algorithm: ed25519, lifetime: 24h, usages: [serverAuth]")
	told, err := d.foretoldProfile(document)
	if err != nil {
		t.Fatal(err)
	}
	if told.Uses[0].Placements != 2 || told.Phases[0].Renewals[0].Count != 2 {
		t.Errorf("uses %v, phases %v", told.Uses, told.Phases)
	}
	if !strings.Contains(fmt.Sprint(told.Obstacles), "rollout try-bigger has profile bigger used at 2 placement(s)") {
		t.Errorf("obstacles %v", told.Obstacles)
	}
	said := d.apply(document)
	if !strings.Contains(fmt.Sprint(said.Differences), "2 placement(s) rotate") {
		t.Errorf("applied: %v", said.Differences)
	}
	counts := map[string]int{}
	for _, h := range hosts {
		counts[h.desired().Profile.Algorithm]++
	}
	if counts["ed25519"] != 2 || counts["ecdsa-p384"] != 2 {
		t.Errorf("desired %v", counts)
	}
}

// What is no one profile is refused.
func TestWhatIfProfileRefusals(t *testing.T) {
	d := found(t)
	d.apply(documents)
	for content, want := range map[string]string{
		"":                                   "the file holds no document",
		documents:                            "holds 4 documents: one Profile is foretold at a time",
		profileOf("lifetime: soon"):          "p.yaml:4:",
		strings.Repeat("kind: Profile\n", 2): "p.yaml:",
	} {
		_, err := d.foretoldProfile(content)
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", content, err, want)
		}
	}
	told, err := d.foretoldProfile(strings.Replace(profileOf("lifetime: 12h, usages: [serverAuth]"), "name: server", "name: new", 1))
	if err != nil || len(told.Uses) != 0 || len(told.Phases) != 0 || len(told.Obstacles) != 0 {
		t.Errorf("a profile that nobody has: %v, %v", told, err)
	}
}
