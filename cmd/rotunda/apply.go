package main

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newApplyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply -f PATH… | --plan FILE",
		Short: "Make the server hold these documents",
		Long: `Applies documents in one transaction with one audit entry: all or nothing. What
the files do not hold stays, unless --prune is given. The git commit of the
files is recorded where there is one, and whether they differ from it.

With --plan it carries out exactly what was saved by plan --out, and refuses
when the server's documents have changed since.`,
		Example: `  rotunda apply -f fleet/
  rotunda apply -f fleet/ --prune         # asks before it deletes
  rotunda apply --plan today.plan
  sed s/24h/12h/ web.yaml | rotunda apply -f -`,
		Args: cobra.NoArgs,
	}
	a := &applying{conn: connectionFlags(cmd.Flags()), output: outputFlag(cmd)}
	flags := cmd.Flags()
	flags.StringArrayVarP(&a.paths, "file", "f", nil, "`path` of a file, a directory, or - for standard input; may be repeated")
	flags.StringVar(&a.plan, "plan", "", "a `file` that plan --out saved")
	flags.BoolVar(&a.prune, "prune", false, "delete what the files do not hold")
	flags.BoolVar(&a.yes, "yes", false, "do not ask before deleting")
	cmd.RunE = a.run
	return cmd
}

// applying is one run of apply.
type applying struct {
	conn       *connection
	output     *format
	paths      []string
	plan       string
	prune, yes bool
}

func (a *applying) run(cmd *cobra.Command, _ []string) error {
	if a.plan != "" && (len(a.paths) > 0 || a.prune) {
		return usagef("--plan holds the files and whether to prune: give no -f or --prune with it")
	}
	request, domain, err := a.request(cmd)
	if err != nil {
		return err
	}
	return a.conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
		if domain != "" {
			if err := sameDomain(ctx, s, domain); err != nil {
				return err
			}
		}
		if request.Prune && !a.yes {
			ready, err := a.review(ctx, s, u, request)
			if err != nil || !ready {
				return err
			}
		}
		response, err := invoke(ctx, s.Apply, request)
		if err != nil {
			return moved(err, request.ExpectState)
		}
		return a.report(u, response)
	})
}

// request is what to send, and the trust domain that a saved plan is for.
func (a *applying) request(cmd *cobra.Command) (request *api.ApplyRequest, domain string, err error) {
	if a.plan != "" {
		saved, err := readPlan(a.plan)
		if err != nil {
			return nil, "", err
		}
		return &api.ApplyRequest{
			Files: saved.sources(), Prune: saved.Prune, ExpectState: saved.State,
			GitCommit: saved.Git.Commit, GitDirty: saved.Git.Dirty,
		}, saved.TrustDomain, nil
	}
	files, err := readSources(a.paths, cmd.InOrStdin(), cmd.ErrOrStderr())
	if err != nil {
		return nil, "", err
	}
	from := gitOrigin(cmd.Context(), a.paths, files)
	return &api.ApplyRequest{
		Files: files, Prune: a.prune, GitCommit: from.Commit, GitDirty: from.Dirty,
	}, "", nil
}

// sameDomain refuses a plan that was made for another trust domain: its
// state would mean something else there.
func sameDomain(ctx context.Context, s *server, domain string) error {
	info, err := invoke(ctx, s.Info, &api.InfoRequest{})
	if err != nil {
		return err
	}
	if info.TrustDomain != domain {
		return fault.New(fault.Conflict, "the plan is for trust domain %s, and %s is of %s", domain, s, info.TrustDomain).
			WithRemedy("name the server that it was made against")
	}
	return nil
}

// review asks before deleting, and then pins the state that was reviewed, so
// that what is deleted is what was shown.
func (a *applying) review(ctx context.Context, s *server, u *ui, request *api.ApplyRequest) (ready bool, err error) {
	plan, err := invoke(ctx, s.Plan, &api.PlanRequest{Files: request.Files, Prune: true})
	if err != nil {
		return false, err
	}
	if hasErrors(plan.Findings) {
		u.showFindings(plan.Findings)
		return false, errReported
	}
	if err := confirmRemovals(u, a.yes, plan.Differences); err != nil {
		return false, err
	}
	if request.ExpectState == "" {
		request.ExpectState = plan.State
	}
	return true, nil
}

// moved says what to do when the documents changed since the plan.
func moved(err error, expected string) error {
	remote, ok := errors.AsType[*connect.Error](err)
	if !ok || expected == "" || remote.Code() != connect.CodeFailedPrecondition && remote.Code() != connect.CodeAborted {
		return err
	}
	what, remedy := cutRemedy(remote.Message())
	if remedy == "" {
		remedy = "look at it again with rotunda plan"
	}
	return fault.New(fault.Conflict, "%s", what).WithRemedy("%s", remedy)
}

func (a *applying) report(u *ui, response *api.ApplyResponse) error {
	err := u.show(*a.output, response, func() {
		u.showFindings(response.Findings)
		if !hasErrors(response.Findings) {
			u.showDifferences(response.Differences)
			u.say("%s", outcome(response))
		}
	})
	if err == nil && hasErrors(response.Findings) {
		return errReported
	}
	return err
}

func outcome(response *api.ApplyResponse) string {
	text := tally(response.Differences)
	if len(differing(response.Differences)) == 0 {
		return text
	}
	text = strings.NewReplacer(" to create", " created", " to change", " changed", " to delete", " deleted").Replace(text)
	if response.AuditId != "" {
		text = strings.TrimSuffix(text, ".") + ". Audit entry " + response.AuditId + "."
	}
	return text
}
