package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
)

// meetRegions asks how the regions do, where any is declared or has agents.
func meetRegions(ctx context.Context, s *server) (*api.ListRegionsResponse, error) {
	list, err := invoke(ctx, s.ListRegions, &api.ListRegionsRequest{})
	if err == nil && len(list.Regions) == 1 && list.Regions[0].Name == "" {
		list.Regions = nil
	}
	return list, err
}

// showRegions shows each region in a line, and what is wrong below.
func showRegions(u *ui, regions []*api.RegionStatus) {
	t := newTable("REGION", "SERVERS", "AGENTS", "NEWEST CONTACT", "PROVEN", "SIGNED BY", "SYNTHETIC", "TRUST", "STATE")
	for _, r := range regions {
		state := cell{"well", good}
		if len(r.Troubles) > 0 {
			state = cell{plural(len(r.Troubles), "trouble"), warn}
		}
		t.row(orElse(r.Name, "(none)"), serversWords(r), fmt.Sprintf("%d of %d", r.Heard, r.Agents), relative(u.now, r.NewestContact),
			fmt.Sprintf("%d of %d", r.Proven, r.Placements), signersWords(r), syntheticWords(u, r), trustWords(r), state)
	}
	t.write(u, "There are no regions: no Region document, and no agent of one.")
	for _, r := range regions {
		for _, words := range r.Troubles {
			u.note("REGION %s: %s", orElse(r.Name, "(none)"), words)
		}
	}
}

func serversWords(r *api.RegionStatus) string {
	alive := 0
	for _, one := range r.Servers {
		if one.Alive {
			alive++
		}
	}
	return fmt.Sprintf("%d of %d", alive, len(r.Servers))
}

// signersWords are the authorities of the certificates in use.
func signersWords(r *api.RegionStatus) string {
	var names []string
	for _, one := range r.Authorities {
		name := one.Name
		if one.Region != "" && one.Region != r.Name {
			name += " of " + one.Region
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// syntheticWords say how old what is proven is, of the one that is the most
// behind.
func syntheticWords(u *ui, r *api.RegionStatus) string {
	var oldest *api.RegionSynthetic
	for _, one := range r.Synthetics {
		if oldest == nil || one.ProvenAt.AsTime().Before(oldest.ProvenAt.AsTime()) {
			oldest = one
		}
	}
	switch {
	case oldest == nil:
		return ""
	case oldest.ProvenAt == nil:
		return "never"
	}
	return relative(u.now, oldest.ProvenAt)
}

// trustWords count the handshakes with servers, by their region, that clients
// here have tried.
func trustWords(r *api.RegionStatus) string {
	var all []string
	for _, one := range r.Trust {
		all = append(all, fmt.Sprintf("%s %d of %d", orElse(one.Region, "(none)"), one.Fits, one.Fits+one.Breaks+one.Unclear))
	}
	return strings.Join(all, ", ")
}
