package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newRetentionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retention",
		Short: "See what leaves the store when, how the archives stand, and make it go now",
		Long: `Records of certificates that ended long ago go to archives: compressed files whose
SHA-256 stands in the audit log. History of which the newest stays is forgotten.
The server does so every hour, by the settings under retention: in rotunda.yaml;
docs/operations.md says what stays whatever its age.`,
		Example: `  rotunda retention status --verify
  rotunda retention run --dry-run`,
	}
	cmd.AddCommand(newRetentionStatusCommand(), newRetentionRunCommand())
	return cmd
}

func newRetentionStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is kept for how long, and whether the archives are whole",
		Long: `Says of each archive that is missing, or not as large as it was written. With
--verify each is read and held against the audit log. It exits 1 where one is
damaged.`,
		Example: `  rotunda retention status
  rotunda retention status --verify -o json`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	verify := cmd.Flags().Bool("verify", false, "read every archive")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			done := u.progress("looking at the archives")
			status, err := invoke(ctx, s.RetentionStatus, &api.RetentionStatusRequest{Verify: *verify})
			done()
			if err != nil {
				return err
			}
			if err := u.show(*output, status, func() { showRetention(u, status) }); err != nil {
				return err
			}
			return damaged(status.Damaged)
		})
	}
	return cmd
}

func showRetention(u *ui, s *api.RetentionStatusResponse) {
	u.sheet([]field{
		{"certificates", kept(s.Certificates, "after their ends, then archived")},
		{"evidence", kept(s.Evidence, "but for the newest")},
		{"notices", kept(s.Notices, "after they were sent")},
		{"checkpoints", kept(s.Checkpoints, "then one a day")},
		{"archives", fmt.Sprintf("%s of %s, %.1f MiB, in %s", plural(int(s.Archives), "archive"), plural(int(s.ArchivedCertificates), "certificate"),
			float64(s.ArchivedBytes)/(1<<20), s.Directory)},
		{"last pass", lastPass(s)},
	})
	for _, one := range s.Strays {
		u.note("The audit log does not know %s: it holds what nothing else does, or is no archive. docs/operations.md", one)
	}
	showDamaged(u, s.Damaged)
}

func kept(d *durationpb.Duration, then string) string {
	if d == nil {
		return "for ever"
	}
	return fleet.Duration(d.AsDuration()).String() + " " + then
}

func lastPass(s *api.RetentionStatusResponse) string {
	switch {
	case s.Last == nil:
		return "none since this server started"
	case s.LastError != "":
		return s.Last.At.AsTime().Format(time.RFC3339) + ", failed: " + s.LastError
	}
	return s.Last.At.AsTime().Format(time.RFC3339) + ": " + passWords(s.Last)
}

func passWords(p *api.RetentionPass) string {
	words := fmt.Sprintf("%s to %s", plural(int(p.Certificates), "certificate"), plural(len(p.Archives), "archive"))
	if p.Adopted > 0 {
		words += fmt.Sprintf(" (%d lay there already)", p.Adopted)
	}
	return words + fmt.Sprintf(", forgotten: %d of evidence, %s, %s", p.Evidence, plural(int(p.Notices), "notice"), plural(int(p.Checkpoints), "checkpoint"))
}

func showDamaged(u *ui, all []*api.ArchiveInfo) {
	for _, one := range all {
		u.note("%s: %s", strings.ToUpper(one.State), one.Problem)
	}
}

// damaged is the error of archives that can't be believed; nil where there is
// none.
func damaged(all []*api.ArchiveInfo) error {
	if len(all) == 0 {
		return nil
	}
	return fault.New(fault.Conflict, "%s can't be believed", plural(len(all), "archive")).
		WithRemedy("put them back from a backup; rotunda retention status --verify names each")
}

func newRetentionRunCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Carry retention out now",
		Example: `  rotunda retention run --dry-run
  rotunda retention run`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	dry := cmd.Flags().Bool("dry-run", false, "only say what would go")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			done := u.progress("carrying retention out")
			response, err := invoke(ctx, s.RunRetention, &api.RunRetentionRequest{DryRun: *dry})
			done()
			if err != nil {
				return err
			}
			return u.show(*output, response, func() {
				if p := response.Pass; *dry {
					u.say("Would go: %s; forgotten: %d of evidence, %s, %s.", plural(int(p.Certificates), "certificate"),
						p.Evidence, plural(int(p.Notices), "notice"), plural(int(p.Checkpoints), "checkpoint"))
					return
				}
				u.say("%s.", passWords(response.Pass))
			})
		})
	}
	return cmd
}
