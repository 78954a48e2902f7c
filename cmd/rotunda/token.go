package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
)

func newTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke the tokens by which agents enrol",
		Example: `  rotunda token create --label env=prod --label role=etcd --ttl 1h
  rotunda token list
  rotunda token revoke 0199c2f4-6a51-7c1e-8000-3f5ad8b60c11`,
	}
	cmd.AddCommand(newTokenCreateCommand(), newTokenListCommand(), newTokenRevokeCommand())
	return cmd
}

func newTokenCreateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token for one agent, and print it once",
		Long: `Makes a token that enrols one agent, once. It carries the pins of the trust
domain's root and of the audit log, so that the agent knows its server; the
labels become the agent's, and only they count in selectors and policies. The
token alone is printed on stdout; the server keeps no copy of its secret.`,
		Example: `  rotunda token create --label env=prod --label role=etcd --ttl 1h > token
  rotunda token create --region eu-west --zone pci -o json`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.CreateTokenRequest{}
	ttl := fleet.Duration(0)
	flags := cmd.Flags()
	flags.StringToStringVar(&request.Labels, "label", nil, "a `label` of the agent, KEY=VALUE; may be repeated")
	flags.Var(&span{&ttl}, "ttl", "how `long` it may be used (default: as the server says)")
	flags.StringVar(&request.Region, "region", "", "the agent's `region`")
	flags.StringVar(&request.Zone, "zone", "", "the agent's `zone`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		request.Ttl = protoDuration(ttl)
		return createToken(cmd, conn, *output, request)
	}
	return cmd
}

// createToken prints the token alone on stdout, so that it can be piped, and
// what there is to say about it on stderr.
func createToken(cmd *cobra.Command, conn *connection, f format, request *api.CreateTokenRequest) error {
	return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
		token, err := invoke(ctx, s.CreateToken, request)
		if err != nil {
			return err
		}
		return u.show(f, token, func() {
			u.say("%s", token.Token)
			u.note("token %s can be used once, %s at the latest; it is not shown again", token.Id, relative(u.now, token.ExpiresAt))
		})
	})
}

func newTokenListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List tokens; their secrets are not kept",
		Example: "  rotunda token list",
		Args:    cobra.NoArgs,
	}
	listTokens(cmd)
	return cmd
}

func listTokens(cmd *cobra.Command) {
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			list, err := invoke(ctx, s.ListTokens, &api.ListTokensRequest{})
			if err != nil {
				return err
			}
			return u.show(*output, list, func() { tokenTable(u, list.Tokens).write(u, "There are none.") })
		})
	}
}

func tokenTable(u *ui, tokens []*api.TokenInfo) *table {
	t := newTable("TOKEN", "STATE", "EXPIRES", "USED", "AGENT", "LABELS")
	for _, token := range tokens {
		s := plain
		if token.State == "open" {
			s = good
		}
		t.row(token.Id, cell{token.State, s}, relative(u.now, token.ExpiresAt), relative(u.now, token.UsedAt), token.AgentId, pairs(token.Labels))
	}
	return t
}

func newTokenRevokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "revoke ID",
		Short:   "Make an unused token worthless",
		Example: "  rotunda token revoke 0199c2f4-6a51-7c1e-8000-3f5ad8b60c11",
		Args:    cobra.ExactArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	cmd.ValidArgsFunction = completeFirst(conn, tokenIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			done, err := invoke(ctx, s.RevokeToken, &api.RevokeTokenRequest{Id: args[0]})
			if err != nil {
				return err
			}
			u.say("Revoked. Audit entry %s.", done.AuditId)
			return nil
		})
	}
	return cmd
}
