package control

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
)

// wire is the regions by name, each with what is wrong with it.
func (v *regionView) wire() []*api.RegionStatus {
	var all []*api.RegionStatus
	for _, name := range slices.Sorted(maps.Keys(v.regions)) {
		r := v.regions[name]
		for id, count := range r.authorities {
			authority := v.authorities[id]
			r.Authorities = append(r.Authorities, &api.RegionAuthority{Name: cmp.Or(authority.Name, id), Region: authority.Region, Certificates: count})
		}
		slices.SortFunc(r.Authorities, func(a, b *api.RegionAuthority) int {
			return cmp.Or(cmp.Compare(b.Certificates, a.Certificates), strings.Compare(a.Name, b.Name))
		})
		for _, other := range slices.Sorted(maps.Keys(r.trust)) {
			r.Trust = append(r.Trust, r.trust[other])
		}
		r.Troubles = r.troubles()
		all = append(all, r.RegionStatus)
	}
	return all
}

// troubles are what somebody should look at, the gravest first.
func (r *region) troubles() (words []string) {
	say := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	alive := 0
	for _, one := range r.Servers {
		if one.Alive {
			alive++
		}
	}
	switch {
	case r.Declared && len(r.Servers) > 0 && alive == 0:
		say("none of its %d servers is heard of: other regions serve its agents", len(r.Servers))
	case alive < len(r.Servers):
		for _, one := range r.Servers {
			if !one.Alive {
				say("server %s is not heard of%s", one.Address, sinceWords(one))
			}
		}
	}
	if r.Away != "" {
		say("authority %s of %s signs for it: its own is %s", r.Signer, regionWords(r.SignerRegion), r.Away)
	}
	if away := r.Agents - r.Heard; away > 0 {
		say("%d of its %d agents are not heard of", away, r.Agents)
	}
	for _, one := range r.Trust {
		if one.Breaks > 0 {
			say("clients here can't verify servers %s: %d of %d looks, such as %s", of(one.Region), one.Breaks, one.Fits+one.Breaks+one.Unclear, one.Words)
		}
	}
	for _, one := range r.Synthetics {
		if one.Behind {
			say("synthetic: %s", one.Words)
		}
	}
	for _, one := range r.Authorities {
		if r.Name != "" && one.Region != "" && one.Region != r.Name {
			say("authority %s of region %s signed %d of its certificates", one.Name, one.Region, one.Certificates)
		}
	}
	if late := r.Agents - r.Believing; late > 0 {
		say("%d of its %d agents do not have the present bundle yet", late, r.Agents)
	}
	return words
}

func sinceWords(s *api.RegionServerStatus) string {
	if s.SeenAt == nil {
		return ""
	}
	return " since " + s.SeenAt.AsTime().Format("2006-01-02 15:04:05")
}

func of(region string) string {
	if region == "" {
		return "of no one region"
	}
	return "of region " + region
}
