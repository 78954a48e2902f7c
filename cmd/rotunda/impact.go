package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

const impactHelp = `Says how far the loss or change of one thing reaches: of a service, of an
authority with all that it signed, or of an agent's host. It shows which live
certificates in use are under it (of an authority also how many are live in all,
of agents, servers and operators too), how much of which services, the edges that depend on
it with how they stand now, who calls those services, directly or through
others, and which teams to ask before.

An agent may be named by its host, an authority by its name or its id.`

// subjects are the words for what an impact may be of.
var subjects = []struct {
	word  string
	kind  api.Subject
	names lister
}{
	{"service", api.Subject_SUBJECT_SERVICE, documentNames("Service")},
	{"authority", api.Subject_SUBJECT_AUTHORITY, authorityNames},
	{"agent", api.Subject_SUBJECT_AGENT, agentIDs},
}

func newImpactCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "impact (service|authority|agent) NAME",
		Short: "Say what depends on a service, an authority or a host, and whom to ask",
		Long:  impactHelp,
		Example: `  rotunda impact authority root
  rotunda impact service orders
  rotunda impact agent db-7 -o json | jq '.ask[].owner.contact'`,
		Args: impactArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.ValidArgsFunction = completeSubject(conn)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			request := &api.ImpactRequest{Kind: subjectKind(args[0]), Name: args[1]}
			if *output == formatTable {
				u.hosts = knownHosts(ctx, s)
			}
			var err error
			if request.Kind == api.Subject_SUBJECT_AGENT {
				if request.Name, err = u.theAgent(ctx, s, request.Name); err != nil {
					return err
				}
			}
			impact, err := invoke(ctx, s.Impact, request)
			if err != nil {
				return err
			}
			return u.show(*output, impact, func() { showImpact(u, impact) })
		})
	}
	return cmd
}

func impactArgs(cmd *cobra.Command, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("say of what: %s", cmd.UseLine())
	}
	if subjectKind(args[0]) == api.Subject_SUBJECT_UNSPECIFIED {
		return fmt.Errorf("%q has no impact that is known here: it is one of service, authority, agent", args[0])
	}
	return nil
}

func subjectKind(word string) api.Subject {
	for _, subject := range subjects {
		if strings.EqualFold(word, subject.word) {
			return subject.kind
		}
	}
	return api.Subject_SUBJECT_UNSPECIFIED
}

func completeSubject(conn *connection) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		var offers []string
		for _, subject := range subjects {
			switch {
			case len(args) == 0 && strings.HasPrefix(subject.word, prefix):
				offers = append(offers, subject.word)
			case len(args) == 1 && strings.EqualFold(args[0], subject.word):
				offers = conn.offer(cmd, subject.names, prefix)
			}
		}
		return offers, cobra.ShellCompDirectiveNoFileComp
	}
}

func authorityNames(ctx context.Context, s *server) ([]string, error) {
	list, err := invoke(ctx, s.ListAuthorities, &api.ListAuthoritiesRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, authority := range list.Authorities {
		names = append(names, authority.Name)
	}
	return names, nil
}

func showImpact(u *ui, impact *api.ImpactResponse) {
	name := impact.Name
	if impact.Kind == api.Subject_SUBJECT_AGENT {
		name = u.hosts.name(name)
	}
	u.say("%s %s\n", word(impact.Kind), name)
	u.sheet([]field{
		{"in use", holdersWords(u, impact.Holders)},
		{"live in all", issuedWords(u, impact.Issued)},
		{"trusted by", trustedWords(impact)},
		{"services", directWords(impact.Direct)},
		{"they are called by", reachedWords(impact.Reached)},
	})
	u.heading("Edges that depend on it")
	edgeTable(impact.Edges).write(u, "None.")
	who := owners{}
	for _, contact := range impact.Ask {
		for _, service := range contact.Services {
			who[service] = &api.GraphService{Name: service, Owner: contact.Owner}
		}
	}
	if len(impact.Edges) > 0 {
		showReasons(u, impact.Edges, who)
	}
	if len(impact.Ask) > 0 {
		u.heading("Ask before")
		askTable(impact.Ask).write(u, "")
	}
}

func holdersWords(u *ui, holders []*api.GraphPlace) string {
	if len(holders) == 0 {
		return "no live certificate"
	}
	last := slices.MaxFunc(holders, func(a, b *api.GraphPlace) int { return a.NotAfter.AsTime().Compare(b.NotAfter.AsTime()) })
	return fmt.Sprintf("%s: %s; the last one ends %s", plural(len(holders), "live certificate"), placeList(u, holders), relative(u.now, last.NotAfter))
}

// issuedWords counts what an authority's records say, by kind: old certificates
// that are live yet, and those of agents, servers and operators, need it too.
func issuedWords(u *ui, issued []*api.IssuedCount) string {
	if len(issued) == 0 {
		return ""
	}
	var parts []string
	for _, one := range issued {
		parts = append(parts, fmt.Sprintf("%s %d", one.Kind, one.Count))
	}
	last := slices.MaxFunc(issued, func(a, b *api.IssuedCount) int { return a.Last.AsTime().Compare(b.Last.AsTime()) })
	return fmt.Sprintf("%s; the last one ends %s", strings.Join(parts, ", "), relative(u.now, last.Last))
}

// trustedWords is of roots: that nobody trusts one is worth a word there only.
func trustedWords(impact *api.ImpactResponse) string {
	if len(impact.Trusts) == 0 {
		return ""
	}
	var services []string
	counts := map[string]int{}
	for _, place := range impact.Trusts {
		if counts[place.Service]++; counts[place.Service] == 1 {
			services = append(services, place.Service)
		}
	}
	for i, service := range services {
		services[i] = fmt.Sprintf("%s %d", serviceName(service), counts[service])
	}
	return fmt.Sprintf("%s: %s", plural(len(impact.Trusts), "placement"), strings.Join(services, ", "))
}

func directWords(direct []*api.ServiceStake) string {
	var parts []string
	for _, stake := range direct {
		part := serviceName(stake.Service)
		if stake.Full > 0 {
			part += fmt.Sprintf(" (%d of %s)", stake.Here, plural(int(stake.Full), "placement"))
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// reachedWords names the services that call, and through whom where that is
// not one of those that are touched.
func reachedWords(reached []*api.ReachedService) string {
	var parts []string
	for _, one := range reached {
		part := one.Service
		if one.Steps > 1 {
			part += " (through " + one.Via + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

func askTable(ask []*api.ServiceContact) *table {
	t := newTable("TEAM", "CONTACT", "SERVICES", "RUNBOOK")
	for _, contact := range ask {
		team := cell{contact.Owner.GetTeam(), plain}
		if contact.Outside {
			team.text += " (outside)"
		}
		t.row(team, contact.Owner.GetContact(), strings.Join(contact.Services, ", "), contact.Owner.GetRunbook())
	}
	return t
}
