package main

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
)

func describePlacement(ctx context.Context, s *server, u *ui, f format, id string) error {
	response, err := invoke(ctx, s.DescribePlacement, &api.DescribePlacementRequest{Id: id})
	if err != nil {
		return err
	}
	return u.show(f, response, func() { showPlacement(u, response) })
}

func showPlacement(u *ui, response *api.DescribePlacementResponse) {
	if p := response.Status; p != nil {
		u.sheet(append(placementSheet(u, p), revocationSheet(u, p, response.Desired)...))
	}
	if d := response.Desired; d != nil {
		u.heading("Desired")
		u.sheet(desiredSheet(u, d))
	}
	if len(response.Certificates) > 0 {
		u.heading("Certificates")
		certificateTable(u, response.Certificates).write(u, "")
	}
	if len(response.Evidence) > 0 {
		u.heading("Evidence")
		for _, e := range response.Evidence {
			showEvidence(u, e)
		}
	}
}

func (u *ui) heading(text string) { u.say("\n%s", text) }

func placementSheet(u *ui, p *api.PlacementStatus) []field {
	fields := []field{
		{"placement", p.Id},
		{"service", p.Service},
		{"intent", p.Intent},
		{"agent", p.Agent},
		{"instance", p.Instance},
		{"target", p.Target},
		{"product", p.Product},
		{"cluster", clusterWords(p)},
		{"state", stateCell(p).text},
		{"reason", reason(p)},
		{"shown", levelCell(u, p).text},
		{"generation", fmt.Sprintf("%d in use, %d the highest so far", p.Generation, p.LastGeneration)},
		{"revision", number(p.Revision)},
		{"serial", p.Serial},
		{"not after", exact(u.now, p.NotAfter)},
		{"renews after", exact(u.now, p.RenewAfter)},
		{"asked for", askedFor(u, p)},
		{"override", overrideSheet(u, p)},
		{"bundle", p.BundleDigest},
		{"rotations", fmt.Sprintf("%d, of which %d restored", p.Rotations, p.Restores)},
		{"last took", short(p.Took)},
		{"reported", exact(u.now, p.ReportedAt)},
	}
	if failure := p.Failure; failure != nil {
		restored := "the previous revision was not restored"
		if failure.Restored {
			restored = "the previous revision is back and proven"
		}
		fields = append(fields, field{"last failure", fmt.Sprintf("generation %d at %s, %s: %s; %s",
			failure.Generation, failure.Step, exact(u.now, failure.At), failure.Reason, restored)})
	}
	return fields
}

// revocationSheet says which lists and which staple are in use, and how far it was
// shown that the process obeys the lists.
func revocationSheet(u *ui, p *api.PlacementStatus, d *api.DesiredPlacement) []field {
	return []field{
		{"lists", inUse(u, p.CrlDigest, d.GetCrlDigest(), d.GetCrlUntil(), word(p.CrlLevel), p.CrlAside)},
		{"staple", inUse(u, p.StapleDigest, d.GetStapleDigest(), d.GetStapleUntil(), "in use", "")},
	}
}

// inUse says of something that is delivered beside a certificate how it stands, and
// why it does not; empty: there is none, and none is wanted.
func inUse(u *ui, used, wanted string, until *timestamppb.Timestamp, how, aside string) string {
	switch {
	case used == "" && aside != "":
		return "none: " + aside
	case used == "" && wanted == "":
		return ""
	case used == "":
		return "none yet; one is wanted"
	case wanted == "":
		return how + ", and not wanted any more: " + used
	case used != wanted:
		return how + ", and a newer one is wanted: " + used
	}
	return how + ", good until " + exact(u.now, until) + ": " + used
}

func overrideSheet(u *ui, p *api.PlacementStatus) string {
	if p.ProfileOverride == nil {
		return ""
	}
	return overrideWords(p) + ", in the place of its intent's since " + exact(u.now, p.ProfileOverride.Since)
}

func desiredSheet(u *ui, d *api.DesiredPlacement) []field {
	fields := []field{{"bundle", d.BundleDigest}}
	if i := d.Identity; i != nil {
		fields = append(fields, field{"identity", strings.Join(append(append([]string{i.CommonName, i.SpiffeId}, i.DnsNames...), i.IpAddresses...), " ")})
	}
	if p := d.Profile; p != nil {
		fields = append(fields, field{"profile", fmt.Sprintf("%s: %s for %s, usages %s", p.Name, p.Algorithm,
			rough(p.Lifetime.AsDuration()), strings.Join(p.Usages, ", "))})
	}
	if t := d.Target; t != nil {
		fields = append(fields, field{"target", strings.TrimSpace(t.Kind + " " + t.Name + " " + t.Address)})
	}
	if files := d.Files; files != nil {
		fields = append(fields, field{"files", fmt.Sprintf("%s, %s, owner %s:%s, mode %s", files.Directory,
			strings.Join(files.Formats, " "), orAsIs(files.Owner), orAsIs(files.Group), files.Mode)})
	}
	if d.RenewAfter != nil {
		fields = append(fields, field{"window", fmt.Sprintf("of generation %d: %s to %s", d.WindowGeneration,
			exact(u.now, d.RenewAfter), exact(u.now, d.RenewBefore))})
	}
	if d.RenewThrough > 0 {
		key := ""
		if d.NewKey {
			key = " with a new key"
		}
		fields = append(fields, field{"renew", fmt.Sprintf("now%s if the generation is at most %d", key, d.RenewThrough)})
	}
	if d.Orphan {
		fields = append(fields, field{"orphan", "files stay, renewal has stopped"})
	}
	return append(fields, field{"held", d.Hold})
}

func orAsIs(name string) string {
	if name == "" {
		return "(agent's)"
	}
	return name
}
