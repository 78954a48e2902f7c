package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

func newPlanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan -f PATH… | --change CHANGE",
		Short: "Show what apply would do, and do nothing",
		Long: `Compares documents with what the server holds and shows each difference and
what would follow from it. Exits 0 when there is none, 2 when there are some,
1 when the documents are wrong or the server cannot be asked.

With --change it foretells a change of trust over today's facts, by the planner that
would lead it: which edges would break and why, who stands in the way, the phases
with their restarts and renewals, when each would be over inside windows and freezes,
what you have to do in them, what of the time nobody can know, and whom to ask. The flags
that rotunda trust rotate takes for its renewals say how these would go.
Exits 0 when nothing would break, 2 when something would or it can't be begun.
With --change profile:FILE it tells the same of a Profile document: whom it touches,
who can't take it, what renews at once, and how many issuances a day it makes.`,
		Example: `  rotunda plan -f fleet/ -f shared.yaml
  rotunda plan -f fleet/ --prune            # also what would be removed
  rotunda plan -f fleet/ --out today.plan   # to be reviewed, then: rotunda apply --plan today.plan
  generate | rotunda plan -f -
  rotunda plan --change rotate-root
  rotunda plan --change rotate-root --window nights --steps 1,10%,100% --soak 30m
  rotunda plan --change withdraw:root --output json
  rotunda plan --change profile:fleet/profiles/server.yaml`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	paths := cmd.Flags().StringArrayP("file", "f", nil, "`path` of a file, a directory, or - for standard input; may be repeated")
	prune := cmd.Flags().Bool("prune", false, "count what the files do not hold as to be removed")
	out := cmd.Flags().String("out", "", "save the plan in a `file` for apply --plan")
	order := changeFlags(cmd, conn)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("change") {
			return order.foretell(cmd, conn, *output)
		}
		if name := order.said(cmd); name != "" {
			return usagef("--%s is of the renewals of a --change: say which", name)
		}
		files, err := readSources(*paths, cmd.InOrStdin(), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			plan, err := invoke(ctx, s.Plan, &api.PlanRequest{Files: files, Prune: *prune})
			if err != nil {
				return err
			}
			err = u.show(*output, plan, func() { u.showPlan(plan) })
			if err != nil {
				return err
			}
			if hasErrors(plan.Findings) {
				return errReported
			}
			if *out != "" {
				if err := savePlan(ctx, s, *out, plan, files, *prune, *paths); err != nil {
					return err
				}
				u.note("saved: carry it out with rotunda apply --plan %s", *out)
			}
			if len(differing(plan.Differences)) > 0 {
				return errDifferences
			}
			return nil
		})
	}
	return cmd
}

func savePlan(
	ctx context.Context, s *server, path string, plan *api.PlanResponse, files []*api.SourceFile, prune bool, paths []string,
) error {
	info, err := invoke(ctx, s.Info, &api.InfoRequest{})
	if err != nil {
		return err
	}
	saved := &savedPlan{
		Format: planFormat, TrustDomain: info.TrustDomain, State: plan.State, Digest: plan.Digest,
		Prune: prune, Git: gitOrigin(ctx, paths, files),
	}
	for _, file := range files {
		saved.Files = append(saved.Files, savedFile{file.Path, file.Content})
	}
	return saved.write(path)
}

// showPlan prints findings on stderr and differences on stdout.
func (u *ui) showPlan(plan *api.PlanResponse) {
	u.showFindings(plan.Findings)
	if hasErrors(plan.Findings) {
		return
	}
	u.showDifferences(plan.Differences)
	u.say("%s", tally(plan.Differences))
}

func (u *ui) showDifferences(differences []*api.Difference) {
	for _, d := range differing(differences) {
		mark, s := markOf(d.Op)
		fmt.Fprintln(u.out, u.paint(s, oneLine(mark+" "+d.Kind+"/"+d.Name)))
		for _, change := range d.Changes {
			u.say("    %s", change)
		}
		for _, effect := range d.Effects {
			u.say("    → %s", effect)
		}
	}
	if len(differing(differences)) > 0 {
		u.say("")
	}
}

func markOf(op api.Difference_Op) (mark string, s style) {
	switch op {
	case api.Difference_CREATE:
		return "+", good
	case api.Difference_UPDATE:
		return "~", warn
	case api.Difference_DELETE:
		return "-", bad
	}
	return " ", plain
}

func differing(all []*api.Difference) []*api.Difference {
	var differing []*api.Difference
	for _, d := range all {
		if d.Op != api.Difference_UNCHANGED && d.Op != api.Difference_OP_UNSPECIFIED {
			differing = append(differing, d)
		}
	}
	return differing
}

// tally is the plan in one line.
func tally(differences []*api.Difference) string {
	count := map[api.Difference_Op]int{}
	for _, d := range differences {
		count[d.Op]++
	}
	same := count[api.Difference_UNCHANGED]
	if len(differing(differences)) == 0 {
		return fmt.Sprintf("No differences: %s as declared.", plural(same, "document"))
	}
	return fmt.Sprintf("%d to create, %d to change, %d to delete, %d unchanged.",
		count[api.Difference_CREATE], count[api.Difference_UPDATE], count[api.Difference_DELETE], same)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// showFindings prints each as "file:line: rule: message" with its remedy
// below, errors and warnings in the order of the files.
func (u *ui) showFindings(findings []*api.Finding) {
	for _, f := range findings {
		label := ""
		if f.Severity == api.Finding_WARNING {
			label = "warning: "
		}
		fmt.Fprintf(u.errs, "%s%s%s: %s\n", placeOf(f), label, f.Rule, printable(f.Message))
		if f.Remedy != "" {
			fmt.Fprintf(u.errs, "  hint: %s\n", printable(f.Remedy))
		}
	}
	if wrong := countErrors(findings); wrong > 0 {
		u.fail(plural(wrong, "error")+" in the documents", "")
	}
}

func placeOf(f *api.Finding) string {
	switch {
	case f.File != "" && f.Line > 0:
		return fmt.Sprintf("%s:%d: ", printable(f.File), f.Line)
	case f.File != "":
		return printable(f.File) + ": "
	case f.Document != "":
		return printable(f.Document) + ": "
	}
	return ""
}

func countErrors(findings []*api.Finding) int {
	n := 0
	for _, f := range findings {
		if f.Severity != api.Finding_WARNING {
			n++
		}
	}
	return n
}

func hasErrors(findings []*api.Finding) bool { return countErrors(findings) > 0 }

// removals names what a plan would delete.
func removals(differences []*api.Difference) []string {
	var gone []string
	for _, d := range differences {
		if d.Op == api.Difference_DELETE {
			gone = append(gone, d.Kind+"/"+d.Name)
		}
	}
	return gone
}

func confirmRemovals(u *ui, yes bool, differences []*api.Difference) error {
	gone := removals(differences)
	if len(gone) == 0 {
		return nil
	}
	return u.confirm(yes, fmt.Sprintf("delete %s?", strings.Join(gone, ", ")))
}
