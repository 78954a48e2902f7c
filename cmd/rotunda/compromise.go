package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const compromiseHelp = `For when a key, a host, a service or an authority is in wrong hands. Without --go it
shows how far that reaches, what would be done and what stops working, and changes
nothing. With --go it revokes, has new keys made in waves, closes sessions, moves
trust to the root that stands by where an authority fell, and proves each step.

By default what is in use is revoked when its successor was proven, so that nothing
stops working meanwhile; --within 1h waits so long at the most, --contain-first not
at all. --rehearse with --label does all of it for real on a slice, and tells the
revocation lists nothing of keys in wrong hands.

docs/runbooks/compromise.md has the steps, and what is left to people.`

func newCompromiseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compromise",
		Short: "Contain what is in wrong hands, recover from it, and prove both",
		Long:  compromiseHelp,
		Example: `  rotunda compromise service orders
  rotunda compromise service orders --go --note "dump found in a bucket" --wait --bundle orders.tar.zst
  rotunda compromise agent db-7 --go --contain-first
  rotunda compromise service orders --rehearse --label rack=7 --go
  rotunda compromise status`,
	}
	for _, one := range []struct {
		kind, use, short string
		names            lister
		set              func(*api.CompromiseRequest, string)
	}{
		{"agent", "agent AGENT", "A host: its agent is cut off at once, and its keys are revoked", agentIDs, func(r *api.CompromiseRequest, name string) { r.Agent = name }},
		{"service", "service NAME", "The keys of a service's placements", documentNames("Service"), func(r *api.CompromiseRequest, name string) { r.Service = name }},
		{"authority", "authority NAME", "An authority's key: trust moves to the root that stands by", authorityNames, func(r *api.CompromiseRequest, name string) { r.Authority = name }},
		{"key", "key SHA-256", "One key, by the SHA-256 of its SubjectPublicKeyInfo, wherever it is", nil, func(r *api.CompromiseRequest, name string) {
			r.Key = strings.ToLower(strings.ReplaceAll(name, ":", ""))
		}},
	} {
		cmd.AddCommand(newCompromiseOfCommand(one.kind, one.use, one.short, one.names, one.set))
	}
	cmd.AddCommand(newCompromiseStatusCommand(), newCompromiseEndCommand(), newCompromiseBundleCommand(), newCompromiseCheckCommand())
	return cmd
}

type compromiseOptions struct {
	output         format
	act, yes, wait bool
	bundle, logKey string
}

func newCompromiseOfCommand(kind, use, short string, names lister, set func(*api.CompromiseRequest, string)) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: short + ".\n\n" + compromiseHelp, Args: cobra.ExactArgs(1)}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.CompromiseRequest{}
	o := compromiseOptions{}
	var within fleet.Duration
	flags := cmd.Flags()
	flags.BoolVar(&o.act, "go", false, "do it; else it is only shown")
	flags.BoolVar(&request.ContainFirst, "contain-first", false, "revoke before anything takes the place of what is revoked")
	flags.Var(&span{&within}, "within", "revoke what is still in use after this `time`, such as 1h")
	flags.BoolVar(&request.Rehearsal, "rehearse", false, "the same on a slice, not on record as a real one")
	if kind != "agent" {
		flags.StringToStringVar(&request.Labels, "label", nil, "what is on agents with these `labels` only, such as rack=7")
	}
	flags.StringVar(&request.Note, "note", "", "what happened, for the audit log")
	flags.BoolVar(&o.yes, "yes", false, "do not ask")
	flags.BoolVar(&o.wait, "wait", false, "follow it until it is contained and recovered from")
	flags.StringVar(&o.bundle, "bundle", "", "write a forensic bundle to this `file` (.tar.zst) at the end; waits for it")
	flags.StringVar(&o.logKey, "log-key", "", logKeyUsage)
	if names != nil {
		cmd.ValidArgsFunction = completeFirst(conn, names)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !o.act && (o.wait || o.bundle != "" || o.yes) {
			return usagef("--wait, --bundle and --yes are of --go; without it nothing is done")
		}
		if flags.Changed("within") {
			request.Within = spanOf(within)
		}
		o.output = *output
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if o.output == formatTable {
				u.hosts = knownHosts(ctx, s)
			}
			set(request, args[0])
			if kind == "agent" {
				var err error
				if request.Agent, err = u.theAgent(ctx, s, args[0]); err != nil {
					return err
				}
			}
			return compromise(ctx, s, u, request, o)
		})
	}
	return cmd
}

// compromise shows what it would be; with --go it asks, does it, and follows it.
func compromise(ctx context.Context, s *server, u *ui, request *api.CompromiseRequest, o compromiseOptions) error {
	var verifier *pinned
	if o.bundle != "" {
		var err error
		if verifier, err = pinnedKey(o.logKey, s.credentials); err != nil {
			return err
		}
	}
	would := proto.Clone(request).(*api.CompromiseRequest)
	would.DryRun = true
	foretold, err := invoke(ctx, s.Compromise, would)
	if err != nil {
		return err
	}
	if !o.act || o.output == formatTable {
		err := u.show(o.output, foretold, func() { u.showFallen(ctx, s, foretold, !o.act) })
		if err != nil || !o.act {
			return err
		}
	}
	if err := u.confirm(o.yes, "begin the answer to that?"); err != nil {
		return err
	}
	done, err := invoke(ctx, s.Compromise, request)
	if err != nil {
		return err
	}
	if !o.wait && o.bundle == "" {
		return u.show(o.output, done, func() { u.begun(done) })
	}
	if o.output == formatTable {
		u.begun(done)
	}
	over, err := awaitCompromise(ctx, s, u, done.Compromise.Id)
	if err != nil {
		return err
	}
	if err := u.show(o.output, over, func() { u.times(over) }); err != nil || o.bundle == "" {
		return err
	}
	return writeBundle(ctx, s, u, over.Id, o.bundle, verifier)
}

// showFallen shows the blast radius and what would be done.
func (u *ui) showFallen(ctx context.Context, s *server, foretold *api.CompromiseResponse, dry bool) {
	one := foretold.Compromise
	if kind := subjectKind(one.Kind); kind != api.Subject_SUBJECT_UNSPECIFIED {
		if impact, err := invoke(ctx, s.Impact, &api.ImpactRequest{Kind: kind, Name: one.Name}); err == nil {
			showImpact(u, impact)
		} else {
			u.note("how far it reaches can't be shown: %v", err)
		}
		u.heading("What would be done")
	}
	if foretold.Already {
		u.say("Its answer has begun %s, as %s:", relative(u.now, one.BegunAt), one.Id)
	}
	u.stepTable(one)
	for _, warning := range foretold.Warnings {
		u.say("%s", u.paint(bad, "! ")+warning)
	}
	u.remaining(one)
	if dry {
		u.say("Nothing was changed: --go begins it.")
	}
}

func (u *ui) begun(done *api.CompromiseResponse) {
	if done.Already {
		u.say("Its answer has begun already: rotunda compromise status %s", done.Compromise.Id)
		return
	}
	u.say("Begun as %s. Audit entry %s. rotunda compromise status %s shows how it goes.", done.Compromise.Id, done.AuditId, done.Compromise.Id)
}

// awaitCompromise follows one until it is over.
func awaitCompromise(ctx context.Context, s *server, u *ui, id string) (*api.Compromise, error) {
	u.hosts = knownHosts(ctx, s)
	shown, end := u.counter("containing")
	defer end()
	for {
		list, err := invoke(ctx, s.ListCompromises, &api.ListCompromisesRequest{Id: id})
		if err != nil {
			if ctx.Err() != nil {
				return nil, fault.New(fault.Unavailable, "interrupted; it goes on without you").WithRemedy("rotunda compromise status %s shows how it goes", id)
			}
			return nil, err
		}
		one := list.Compromises[0]
		if one.EndedAt != nil {
			return one, nil
		}
		shown(u.compromiseWords(one))
		select {
		case <-ctx.Done():
		case <-time.After(watchEvery):
		}
	}
}

// compromiseWords says in a line where one stands: the first step that is not
// complete, of what comes first.
func (u *ui) compromiseWords(one *api.Compromise) string {
	if one.EndedAt != nil && one.ContainedAt != nil && one.RecoveredAt != nil {
		return ""
	}
	for _, recovery := range []bool{false, true} {
		for _, step := range one.Steps {
			if step.Recovery != recovery || step.Complete {
				continue
			}
			words := fmt.Sprintf("%s %d of %d", step.Name, step.Done, step.Of)
			if len(step.Waits) > 0 {
				words += ": " + strings.TrimSpace(u.waitName(step.Waits[0].Who)+" "+step.Waits[0].Reason)
			}
			return words
		}
	}
	return ""
}

func newCompromiseStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [ID]",
		Short: "Show what was answered to, and who holds it up",
		Long: `Without ID it lists the newest hundred; with one it shows each step, who holds it up
and what to do, how long it took to contain and to recover, and who takes what was
revoked all the same, since he looks at no list.`,
		Example: `  rotunda compromise status
  rotunda compromise status 0199c2f4-… --wait`,
		Args: cobra.MaximumNArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.ListCompromisesRequest{}
	cmd.Flags().BoolVar(&request.Open, "open", false, "those that are not over only")
	wait := cmd.Flags().Bool("wait", false, "follow ID until it is over")
	cmd.ValidArgsFunction = completeFirst(conn, compromiseIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *wait && len(args) == 0 {
			return usagef("--wait wants an ID")
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if *wait {
				if _, err := awaitCompromise(ctx, s, u, args[0]); err != nil {
					return err
				}
			}
			if len(args) > 0 {
				request.Id = args[0]
			}
			list, err := invoke(ctx, s.ListCompromises, request)
			if err != nil {
				return err
			}
			if *output == formatTable {
				u.hosts = knownHosts(ctx, s)
			}
			return u.show(*output, list, func() {
				if request.Id != "" {
					u.showCompromise(list.Compromises[0])
					return
				}
				u.compromiseTable(list.Compromises)
			})
		})
	}
	return cmd
}

func compromiseIDs(ctx context.Context, s *server) ([]string, error) {
	list, err := invoke(ctx, s.ListCompromises, &api.ListCompromisesRequest{})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, one := range list.Compromises {
		ids = append(ids, one.Id)
	}
	return ids, nil
}

func newCompromiseEndCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "end ID --reason TEXT",
		Short: "Look after it no more",
		Long: `Ends one that is not contained or not recovered from. What it began goes on by itself:
rotunda revocations end, rotunda rollout abort and rotunda trust back are their ends.`,
		Args: cobra.ExactArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	request := &api.EndCompromiseRequest{}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the audit log")
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.ValidArgsFunction = completeFirst(conn, compromiseIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request.Id = args[0]
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if err := u.confirm(*yes, "look after compromise "+request.Id+" no more?"); err != nil {
				return err
			}
			done, err := invoke(ctx, s.EndCompromise, request)
			if err != nil {
				return err
			}
			u.say("Ended. Audit entry %s.", done.AuditId)
			return nil
		})
	}
	return cmd
}

// took is how long it was from one moment to another; empty: not yet.
func took(from, to *timestamppb.Timestamp) string {
	if to == nil {
		return ""
	}
	return short(durationpb.New(to.AsTime().Sub(from.AsTime()).Round(time.Millisecond)))
}
