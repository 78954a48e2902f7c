package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newRevocationsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revocations [ID]",
		Short: "Show what is revoked, and what a revocation waits for",
		Long: `Shows the revocations that were asked for. One that is open has certificates in
use: each is revoked when its successor was proven, and says here what it waits for.`,
		Example: `  rotunda revocations
  rotunda revocations --open
  rotunda revocations 0199c2f4-…
  rotunda revocations end 0199c2f4-… --reason "the key was found"`,
		Args: cobra.MaximumNArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.ListRevocationsRequest{}
	cmd.Flags().BoolVar(&request.Open, "open", false, "those that wait for something only")
	cmd.ValidArgsFunction = completeFirst(conn, revocationIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			request.Id = args[0]
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			list, err := invoke(ctx, s.ListRevocations, request)
			if err != nil {
				return err
			}
			u.meetHosts(ctx, s, *output)
			return u.show(*output, list, func() {
				if request.Id != "" {
					u.showRevocation(list.Revocations[0])
					return
				}
				u.revocationTable(list.Revocations)
			})
		})
	}
	cmd.AddCommand(newRevocationsEndCommand())
	return cmd
}

func newRevocationsEndCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "end ID",
		Short: "Let what a revocation has not revoked yet be",
		Long:  `Ends a revocation that waits. What it has revoked stays revoked; the rest is not revoked.`,
		Args:  cobra.ExactArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	request := &api.EndRevocationRequest{}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the audit log")
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.ValidArgsFunction = completeFirst(conn, revocationIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request.Id = args[0]
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if err := u.confirm(*yes, "let what revocation "+request.Id+" has not revoked be?"); err != nil {
				return err
			}
			done, err := invoke(ctx, s.EndRevocation, request)
			if err != nil {
				return err
			}
			u.say("Ended. Audit entry %s.", done.AuditId)
			return nil
		})
	}
	return cmd
}

func revocationIDs(ctx context.Context, s *server) ([]string, error) {
	response, err := invoke(ctx, s.ListRevocations, &api.ListRevocationsRequest{})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, one := range response.Revocations {
		ids = append(ids, one.Id)
	}
	return ids, nil
}

func (u *ui) revocationTable(revocations []*api.Revocation) {
	t := newTable("ID", "OBJECT", "REASON", "ASKED", "BY", "REVOKED", "WAITS FOR")
	for _, r := range revocations {
		revoked, waits := progressOfRevocation(r)
		t.row(r.Id, r.Object, r.Reason, relative(u.now, r.BegunAt), r.By, fmt.Sprintf("%d of %d", revoked, len(r.Parts)), waits)
	}
	t.write(u, "Nothing was revoked yet.")
}

// progressOfRevocation counts what is revoked, and says what the first of the rest waits for.
func progressOfRevocation(r *api.Revocation) (revoked int, waits string) {
	waiting := 0
	for _, part := range r.Parts {
		if part.RevokedAt != nil {
			revoked++
		}
		if part.WaitsFor != "" {
			if waiting++; waits == "" {
				waits = part.WaitsFor
			}
		}
	}
	if waiting > 1 {
		waits += fmt.Sprintf(", and %d more", waiting-1)
	}
	return revoked, waits
}

func (u *ui) showRevocation(r *api.Revocation) {
	u.sheet([]field{
		{"revocation", r.Id}, {"object", r.Object}, {"reason", r.Reason}, {"note", r.Note}, {"by", r.By},
		{"asked", exact(u.now, r.BegunAt)}, {"forced", exact(u.now, r.ForceAt)}, {"over", exact(u.now, r.EndedAt)},
	})
	u.say("")
	u.partTable(r.Parts)
	if len(r.Sessions) > 0 {
		u.heading("Sessions that were opened with them")
		t := newTable("SERVICE", "INTENT", "AGENT", "CLOSED", "WHEN", "WHAT")
		for _, one := range r.Sessions {
			t.row(one.Service, one.Intent, u.hosts.name(one.Agent), outcomeCell(one.Outcome), relative(u.now, one.At), one.Words)
		}
		t.write(u, "")
	}
}

func outcomeCell(o api.Outcome) cell {
	switch o {
	case api.Outcome_OUTCOME_UNSPECIFIED:
		return cell{"not yet", busy}
	case api.Outcome_OUTCOME_DONE:
		return cell{"done", good}
	case api.Outcome_OUTCOME_PARTLY:
		return cell{"partly", busy}
	}
	return cell{strings.ToLower(strings.TrimPrefix(o.String(), "OUTCOME_")), bad}
}

func (u *ui) partTable(parts []*api.RevocationPart) {
	t := newTable("SERIAL", "KIND", "WHOSE", "GEN", "ENDS", "IN USE", "REVOKED", "WAITS FOR")
	for _, part := range parts {
		generation := ""
		if part.Generation > 0 {
			generation = strconv.FormatUint(part.Generation, 10)
		}
		t.row(part.Serial, part.Kind, u.whose(part), generation, relative(u.now, part.NotAfter), yesNo(part.InUse), u.revokedCell(part), part.WaitsFor)
	}
	t.write(u, "It has no certificates.")
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func (u *ui) revokedCell(part *api.RevocationPart) cell {
	switch {
	case part.RevokedAt == nil:
		return cell{"", faint}
	case part.Listed:
		return cell{relative(u.now, part.RevokedAt) + ", listed", good}
	}
	return cell{relative(u.now, part.RevokedAt) + ", on no list yet", busy}
}

// whose names who shows a certificate.
func (u *ui) whose(part *api.RevocationPart) string {
	switch {
	case part.Intent != "":
		return part.Intent + " on " + u.hosts.name(part.Agent)
	case part.Agent != "":
		return u.hosts.name(part.Agent)
	}
	return part.Subject
}

// showRevoked shows what is to be revoked, and what follows from it.
func (u *ui) showRevoked(done *api.RevokeResponse, request *api.RevokeRequest) {
	u.partTable(done.Revocation.Parts)
	for _, warning := range done.Warnings {
		u.say("%s", u.paint(bad, "! ")+warning)
	}
	if !request.Lift && !request.Now {
		if waiting := waitingParts(done.Revocation); waiting > 0 {
			u.say("%s in use: each is revoked once its successor was proven.", plural(waiting, "certificate"))
		}
	}
}

func waitingParts(r *api.Revocation) (n int) {
	for _, part := range r.Parts {
		if part.WaitsFor != "" {
			n++
		}
	}
	return n
}

func (u *ui) saidRevoked(done *api.RevokeResponse, request *api.RevokeRequest) {
	revoked, _ := progressOfRevocation(done.Revocation)
	switch {
	case request.Lift:
		u.say("Off hold. Audit entry %s.", done.AuditId)
	case done.Revocation.EndedAt != nil:
		u.say("%s revoked. Audit entry %s.", plural(revoked, "certificate"), done.AuditId)
	default:
		u.say("%d of %s revoked; the rest follows. Audit entry %s. rotunda revocations %s shows how it goes.",
			revoked, plural(len(done.Revocation.Parts), "certificate"), done.AuditId, done.Revocation.Id)
	}
}

// awaitRevocation follows a revocation until it is over.
func awaitRevocation(ctx context.Context, s *server, u *ui, id string) error {
	began := time.Now()
	shown, end := u.counter("waiting for successors")
	defer end()
	for {
		list, err := invoke(ctx, s.ListRevocations, &api.ListRevocationsRequest{Id: id})
		if err != nil {
			if ctx.Err() != nil {
				return fault.New(fault.Unavailable, "interrupted; the revocation goes on without you").WithRemedy("rotunda revocations %s shows how it goes", id)
			}
			return err
		}
		r := list.Revocations[0]
		revoked, waits := progressOfRevocation(r)
		words := fmt.Sprintf("%d of %s revoked", revoked, plural(len(r.Parts), "certificate"))
		if r.EndedAt != nil {
			end()
			u.note("%s after %s.", words, short(durationpb.New(time.Since(began))))
			return nil
		}
		shown(words + ": " + waits)
		select {
		case <-ctx.Done():
		case <-time.After(watchEvery):
		}
	}
}
