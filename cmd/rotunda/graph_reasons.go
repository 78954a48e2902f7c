package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
)

// mostNamed is how many placements a line names before it counts the rest.
const mostNamed = 3

// owners are the services by name, for whom to ask.
type owners map[string]*api.GraphService

func ownersOf(services []*api.GraphService) owners {
	all := owners{}
	for _, service := range services {
		all[service.Name] = service
	}
	return all
}

// showReasons says of each edge that is not simply ok what is in the way, of
// whom, and whom to ask.
func showReasons(u *ui, edges []*api.GraphEdge, who owners) {
	for _, e := range worstFirst(edges) {
		reasons := append(slices.Clone(e.Serves.GetReasons()), e.Presents.GetReasons()...)
		if len(reasons) == 0 {
			continue
		}
		slices.SortStableFunc(reasons, func(a, b *api.GraphReason) int { return fitRank[a.Fit] - fitRank[b.Fit] })
		mark := fitStyles[e.Fit]
		u.say("")
		fmt.Fprintf(u.out, "%s%s\n", u.paint(mark.style, mark.text), printable(e.Client+" → "+e.Server))
		var told, asked []string
		for _, reason := range reasons {
			if line := reasonLine(u, reason); !slices.Contains(told, line) { // members say it both ways
				told = append(told, line)
				u.say("    %s", line)
			}
			if line := who.ask(reason.Ask); line != "" && !slices.Contains(asked, line) {
				asked = append(asked, line)
			}
		}
		for _, line := range asked {
			u.say("    ask %s", line)
		}
	}
}

func reasonLine(u *ui, reason *api.GraphReason) string {
	text := u.hosts.spoken(reason.Text)
	if len(reason.Places) == 0 {
		return text
	}
	return text + ": " + placeList(u, reason.Places)
}

// placeList names the first few placements and counts the rest.
func placeList(u *ui, places []*api.GraphPlace) string {
	var names []string
	for i, place := range places {
		if i == mostNamed && len(places) > mostNamed+1 {
			names = append(names, fmt.Sprintf("and %d more", len(places)-i))
			break
		}
		name := place.Intent + " on " + u.hosts.name(place.Agent)
		if place.Instance != "" && place.Instance != "main" {
			name += " (" + place.Instance + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func (o owners) ask(service string) string {
	s := o[service]
	if s.GetOwner() == nil {
		return ""
	}
	text := fmt.Sprintf("%s of %s: %s", s.Owner.Team, service, s.Owner.Contact)
	if s.Owner.Runbook != "" {
		text += ", " + s.Owner.Runbook
	}
	return text
}

// anchorTable says of each root who still needs it, who trusts it and who does
// not.
func anchorTable(uses []*api.AnchorUse) *table {
	t := newTable("ROOT", "FINGERPRINT", "CERTIFICATES UNDER IT", "TRUSTED BY", "NOT TRUSTED BY", "NOT KNOWN OF")
	for _, use := range uses {
		t.row(use.Anchor.GetName(), clip(use.Anchor.GetFingerprint(), 12), shares(use.Under), shares(use.Trusts),
			cell{shares(use.Lacks), warn}, cell{shares(use.Unknown), faint})
	}
	return t
}

// shares names the services with the most placements, and counts the rest.
func shares(all []*api.ServiceShare) string {
	sorted := slices.Clone(all)
	if len(all) > mostNamed+1 {
		slices.SortStableFunc(sorted, func(a, b *api.ServiceShare) int { return int(b.Count) - int(a.Count) })
	}
	var parts []string
	for i, share := range sorted {
		if i == mostNamed && len(all) > mostNamed+1 {
			parts = append(parts, fmt.Sprintf("and %d more services", len(all)-i))
			break
		}
		parts = append(parts, serviceName(share.Service)+" "+levelMarks(share.Levels))
	}
	return strings.Join(parts, ", ")
}

// serviceName is a service, or what stands for none.
func serviceName(service string) string {
	if service == "" {
		return "(no service)"
	}
	return service
}
