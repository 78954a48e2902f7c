package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get THINGS",
		Short: "List documents, certificates, agents, tokens, placements or authorities",
		Example: `  rotunda get documents
  rotunda get intents -o yaml
  rotunda get certificates --expiring 24h
  rotunda get agents --label env=prod
  rotunda get placements --service orders -o json`,
	}
	cmd.AddCommand(newGetDocumentsCommand(), newGetCertificatesCommand(), newGetAgentsCommand(), newGetServersCommand(),
		newGetTokensCommand(), newGetPlacementsCommand(), newGetAuthoritiesCommand())
	for _, kind := range fleet.Kinds() {
		cmd.AddCommand(newGetKindCommand(kind))
	}
	return cmd
}

func newGetDocumentsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "documents",
		Aliases: []string{"document", "docs"},
		Short:   "List the documents of all kinds",
		Example: `  rotunda get documents
  rotunda get documents -o json | jq '.documents[].document'`,
		Args: cobra.NoArgs,
	}
	getDocuments(cmd, "")
	return cmd
}

func newGetKindCommand(kind fleet.Kind) *cobra.Command {
	one := strings.ToLower(string(kind))
	cmd := &cobra.Command{
		Use:     pluralOf(one) + " [NAME]",
		Aliases: []string{one},
		Short:   "List the documents of kind " + string(kind),
		Example: "  rotunda get " + pluralOf(one),
		Args:    cobra.MaximumNArgs(1),
	}
	getDocuments(cmd, string(kind))
	return cmd
}

func pluralOf(word string) string {
	if base, ok := strings.CutSuffix(word, "y"); ok {
		return base + "ies"
	}
	return word + "s"
}

func getDocuments(cmd *cobra.Command, kind string) {
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	if kind != "" {
		cmd.ValidArgsFunction = completeFirst(conn, documentNames(kind))
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			request := &api.ListDocumentsRequest{Kind: kind}
			if len(args) > 0 {
				request.Name = args[0]
			}
			list, err := invoke(ctx, s.ListDocuments, request)
			if err != nil {
				return err
			}
			if request.Name != "" && len(list.Documents) == 0 {
				return fault.New(fault.NotFound, "there is no %s/%s", kind, request.Name)
			}
			return u.show(*output, list, func() { documentTable(u, list).write(u, "There are none.") })
		})
	}
}

func documentTable(u *ui, list *api.ListDocumentsResponse) *table {
	t := newTable("KIND", "NAME", "REVISION", "CHANGED", "BY", "COMMIT")
	for _, d := range list.Documents {
		t.row(d.Kind, d.Name, number(d.Revision), relative(u.now, d.ChangedAt), d.ChangedBy, clip(d.GitCommit, 12))
	}
	return t
}

func newGetCertificatesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "certificates",
		Aliases: []string{"certificate", "certs"},
		Short:   "List certificates that are live, or expire soon, or are archived",
		Long: `Lists certificates from the store. Those that ended long ago have left it:
--archived finds them in the server's archives, each of which is held against the
audit log before it is believed. It exits 1 where one that had to be looked into
is missing or was altered.`,
		Example: `  rotunda get certificates
  rotunda get certificates --expiring 24h
  rotunda get certificates --intent orders-db --all -o json
  rotunda get certificates --archived --serial 0199c2f4…
  rotunda get certificates --archived --placement 0199c2f4-… -o json`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	var expiring fleet.Duration
	cmd.Flags().Var(&span{&expiring}, "expiring", "only what expires within this `time`, such as 24h or 7d")
	all := cmd.Flags().Bool("all", false, "expired and revoked ones too")
	intent := intentFlag(cmd, conn)
	archived := archivedFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if archived.on {
				archived.Intent = *intent
				return getArchived(ctx, s, u, &archived.ListArchivedCertificatesRequest, *output)
			}
			request := &api.ListCertificatesRequest{IncludeExpired: *all, Intent: *intent, Expiring: protoDuration(expiring)}
			list, err := invoke(ctx, s.ListCertificates, request)
			if err != nil {
				return err
			}
			return u.show(*output, list, func() { certificateTable(u, list.Certificates).write(u, "There are none.") })
		})
	}
	return cmd
}

func certificateTable(u *ui, certificates []*api.CertificateInfo) *table {
	t := newTable("SERIAL", "KIND", "INTENT", "AGENT", "GENERATION", "EXPIRES", "REVOKED", "SUBJECT")
	for _, c := range certificates {
		generation := ""
		if c.Generation > 0 {
			generation = number(c.Generation)
		}
		revoked := relative(u.now, c.RevokedAt)
		t.row(c.Serial, c.Kind, c.Intent, c.Agent, generation, u.expiry(c.NotAfter), cell{revoked, bad}, c.Subject)
	}
	return t
}

// expiry is when a certificate ends, and red once it has.
func (u *ui) expiry(at timestamp) cell {
	if at != nil && !at.AsTime().After(u.now) {
		return cell{relative(u.now, at), bad}
	}
	return cell{text: relative(u.now, at)}
}

func newGetAgentsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "agents",
		Aliases: []string{"agent"},
		Short:   "List agents, and whether they are connected",
		Example: `  rotunda get agents
  rotunda get agents --label env=prod,rack=7
  rotunda get agents -o json | jq '.agents[] | select(.connected | not)'`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	labels := cmd.Flags().StringToString("label", nil, "only agents with these `labels`, KEY=VALUE")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			list, err := listAgents(ctx, s)
			if err != nil {
				return err
			}
			list.Agents = slices.DeleteFunc(list.Agents, func(a *api.AgentInfo) bool { return !labelled(a, *labels) })
			return u.show(*output, list, func() { agentTable(u, list.Agents).write(u, "There are none.") })
		})
	}
	return cmd
}

func labelled(agent *api.AgentInfo, wanted map[string]string) bool {
	for key, value := range wanted {
		if has, ok := agent.Labels[key]; !ok || has != value {
			return false
		}
	}
	return true
}

func agentTable(u *ui, agents []*api.AgentInfo) *table {
	t := newTable("AGENT", "HOST", "STATE", "CONNECTED", "IDENTITY ENDS", "CLOCK", "LABELS", "ALARM")
	for _, a := range agents {
		connected := cell{"yes", good}
		switch {
		case a.Connected:
		case a.SeenAt != nil:
			connected = cell{"no, seen " + relative(u.now, a.SeenAt), warn}
		default:
			connected = cell{"never", warn}
		}
		t.row(a.Id, a.Facts["hostname"], a.State, connected, u.expiry(a.IdentityNotAfter), a.ClockOffset,
			pairs(a.Labels), cell{a.Alarm, bad})
	}
	return t
}

func newGetTokensCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tokens",
		Aliases: []string{"token"},
		Short:   "List enrolment tokens; their secrets are not kept",
		Example: "  rotunda get tokens",
		Args:    cobra.NoArgs,
	}
	listTokens(cmd)
	return cmd
}

func newGetPlacementsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "placements",
		Aliases: []string{"placement"},
		Short:   "List placements with their ids and revisions",
		Example: `  rotunda get placements --intent orders-db
  rotunda describe placement/0199c2f4-…`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	filter := placementFlags(cmd, conn)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			u.findHost(ctx, s, filter)
			list, err := listPlacements(ctx, s, u, filter)
			if err != nil {
				return err
			}
			return u.show(*output, list, func() { placementTable(u, list.Placements).write(u, "There are none.") })
		})
	}
	return cmd
}

func placementTable(u *ui, placements []*api.PlacementStatus) *table {
	t := newTable("PLACEMENT", "INTENT", "AGENT", "INSTANCE", "TARGET", "GENERATION", "REVISION", "ROTATIONS", "RESTORES", "STATE")
	for _, p := range placements {
		t.row(p.Id, p.Intent, p.Agent, p.Instance, p.Target, number(p.Generation), number(p.Revision),
			number(p.Rotations), number(p.Restores), stateCell(p))
	}
	return t
}

func newGetAuthoritiesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "authorities",
		Aliases: []string{"authority", "cas"},
		Short:   "List the trust domain's authorities",
		Example: "  rotunda get authorities",
		Args:    cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			list, err := invoke(ctx, s.ListAuthorities, &api.ListAuthoritiesRequest{})
			if err != nil {
				return err
			}
			return u.show(*output, list, func() { authorityTable(u, list.Authorities).write(u, "There are none.") })
		})
	}
	return cmd
}

func authorityTable(u *ui, authorities []*api.AuthorityInfo) *table {
	t := newTable("AUTHORITY", "KIND", "STATE", "REGION", "KEY", "ALGORITHM", "EXPIRES", "ID", "SUBJECT")
	for _, a := range authorities {
		state := a.State
		if a.Stopped != "" {
			state = "stopped"
		}
		t.row(a.Name, a.Kind, state, a.Region, a.Key, a.Algorithm, u.expiry(a.NotAfter), a.Id, a.Subject)
	}
	return t
}
