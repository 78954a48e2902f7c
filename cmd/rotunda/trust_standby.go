package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

func newTrustPrepareCommand() *cobra.Command {
	o := &trustOrder{prepare: &api.PrepareTrustRequest{Kind: "standby"}, begin: &api.BeginTrustRequest{}}
	cmd := &cobra.Command{
		Use:   "prepare --standby",
		Short: "Make a root that stands by, trusted by everybody before it is needed",
		Long: `Makes a second root and an issuing authority under it, and has every relying party
adopt it, as rotunda trust rotate root does; then it stands still. Take the key of the
new root away from here. Other changes of trust go on beside it, and rotunda trust failover
puts it in the place of the root that signs then: without a ceremony, and without waiting
for anybody who has adopted it.

Where a root stands by already, another issuing authority is made under it, by its own key:
--root-key. rotunda trust status says when that is due. rotunda trust back ID gives it up.`,
		Example: `  rotunda trust prepare --standby --root-key root/key.pem --new-root standby
  rotunda trust prepare --standby --root-key standby/key.pem    # another issuing authority under it
  rotunda trust prepare --standby --request request.json        # with roots that are offline`,
		Args: cobra.NoArgs,
	}
	o.conn, o.output = connectionFlags(cmd.Flags()), outputFlag(cmd)
	flags := cmd.Flags()
	standby := flags.Bool("standby", false, "make a root that stands by; there is nothing else to prepare")
	o.makeFlags(cmd)
	flags.StringVar(&o.begin.Reason, "reason", "", "why, for the audit log")
	flags.BoolVar(&o.begin.DryRun, "dry-run", false, "sign and check, but record nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !*standby {
			return usagef("say what is to be prepared: --standby. A change that begins at once is rotunda trust rotate")
		}
		if err := o.check(); err != nil {
			return err
		}
		return o.conn.with(cmd, o.rotate)
	}
	return cmd
}

func newTrustFailoverCommand() *cobra.Command {
	o := &trustOrder{begin: &api.BeginTrustRequest{Failover: true}}
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Put the root that stands by in the place of the one that signs",
		Long: `Begins a change of trust to the root that was prepared with rotunda trust prepare
--standby. What everybody has adopted already need not be proven again, so it begins with the
reissue. Somebody who has come since, or lost it, still holds the change: rotunda trust
advance --force goes on without him.`,
		Example: `  rotunda trust failover --reason "the root's key leaked" --dry-run
  rotunda trust failover --reason "the root's key leaked" --over 10m`,
		Args: cobra.NoArgs,
	}
	o.conn, o.output = connectionFlags(cmd.Flags()), outputFlag(cmd)
	o.beginFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.waves(); err != nil {
			return err
		}
		return o.conn.with(cmd, o.start)
	}
	return cmd
}

// foreignRoots are the imported roots that a change could lead away from.
func foreignRoots(ctx context.Context, s *server) ([]string, error) {
	list, err := invoke(ctx, s.ListAuthorities, &api.ListAuthoritiesRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, one := range list.Authorities {
		if one.Key == "foreign" && one.Kind == "root" && one.State != "withdrawn" {
			names = append(names, one.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}
