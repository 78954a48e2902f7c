package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

func newDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete KIND/NAME",
		Short: "Remove a document",
		Long: `Removes a document from the server. Removing an intent leaves its files on the
hosts and stops their renewal; its placements then show as orphans. It asks
first on a terminal; elsewhere it wants --yes.`,
		Example: `  rotunda delete intent/orders-db --dry-run
  rotunda delete intent/orders-db --yes`,
		Args: cobra.RangeArgs(1, 2),
	}
	conn := connectionFlags(cmd.Flags())
	dryRun := cmd.Flags().Bool("dry-run", false, "only show what would follow")
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.ValidArgsFunction = completeFirst(conn, documentKeys)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		word, name, err := splitKey(args)
		if err != nil {
			return err
		}
		kind, ok := documentKind(word)
		if !ok {
			return usagef("there is no kind of document %q", word)
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			request := &api.DeleteDocumentRequest{Kind: kind, Name: name, DryRun: true}
			would, err := invoke(ctx, s.DeleteDocument, request)
			if err != nil {
				return err
			}
			u.effects("- "+kind+"/"+name, would.Effects)
			if *dryRun {
				u.say("Nothing was deleted: this was a dry run.")
				return nil
			}
			if err := u.confirm(*yes, "delete "+kind+"/"+name+"?"); err != nil {
				return err
			}
			done, err := invoke(ctx, s.DeleteDocument, &api.DeleteDocumentRequest{Kind: kind, Name: name})
			if err != nil {
				return err
			}
			u.say("Deleted. Audit entry %s.", done.AuditId)
			return nil
		})
	}
	return cmd
}

// effects shows an act and what follows from it.
func (u *ui) effects(act string, effects []string) {
	_, _ = io.WriteString(u.out, u.paint(bad, oneLine(act))+"\n")
	for _, effect := range effects {
		u.say("    → %s", strings.TrimSpace(effect))
	}
}
