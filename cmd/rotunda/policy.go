package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/policy"
)

func newPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Test policies before they count, and replay them over what was issued",
		Example: `  rotunda policy test cases.yaml
  rotunda policy replay --since 30d -f policies/`,
	}
	cmd.AddCommand(newPolicyTestCommand(), newPolicyReplayCommand())
	return cmd
}

func newPolicyTestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test FILE…",
		Short: "Run allow and deny cases against policies; no server is asked",
		Long: `Runs the cases of a file against the policies that it names under policies
(paths seen from the file), or those of -f. Exits 1 when a case fails. Keep the
file out of the directories that are applied: it holds no document.

  policies: [policies/]
  cases:
    - name: orders may serve under its own name
      expect: allow
      rule: orders/servers        # optional: the rule that must decide
      input:
        service: orders
        agent: {labels: {env: prod}}
        names: {dnsNames: [orders.example.com]}
        usages: [serverAuth]
        algorithm: ecdsa-p256
        lifetime: 24h`,
		Example: `  rotunda policy test cases.yaml
  rotunda policy test cases.yaml -f fleet/ -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	output := outputFlag(cmd)
	paths := cmd.Flags().StringArrayP("file", "f", nil, "`path` of policies instead of those that FILE names; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		u := newUI(cmd)
		var results []caseResult
		for _, file := range args {
			some, err := testPolicies(u, file, *paths)
			if err != nil {
				return err
			}
			results = append(results, some...)
		}
		if err := u.showValue(*output, results, func() { u.showCases(results) }); err != nil {
			return err
		}
		for _, result := range results {
			if !result.Passed {
				return errReported
			}
		}
		return nil
	}
	return cmd
}

// caseResult is one case as it is shown.
type caseResult struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Name    string `json:"name"`
	Passed  bool   `json:"passed"`
	Allowed bool   `json:"allowed"`
	Rule    string `json:"rule"`
	Problem string `json:"problem"`
}

func testPolicies(u *ui, path string, policies []string) ([]caseResult, error) {
	file, err := readSourceFile(path)
	if err != nil {
		return nil, err
	}
	tests, findings := policy.ParseTests(fleet.File{Path: path, Content: file.Content})
	if u.showLocal(findings) {
		return nil, errReported
	}
	if len(policies) == 0 {
		for _, named := range tests.Policies {
			policies = append(policies, beside(path, named))
		}
	}
	if len(policies) == 0 {
		return nil, usagef("%s names no policies: write 'policies: [PATH]' into it, or say -f PATH", path)
	}
	engine, err := compilePolicies(u, policies)
	if err != nil {
		return nil, err
	}
	outcomes, err := policy.RunTests(engine, file.Content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var results []caseResult
	for _, o := range outcomes {
		results = append(results, caseResult{path, o.Line, o.Name, o.Passed, o.Decision.Allowed, o.Decision.Rule, o.Problem})
	}
	return results, nil
}

// beside is a path that a file names, seen from where the file lies.
func beside(file, named string) string {
	if filepath.IsAbs(named) {
		return named
	}
	return filepath.Join(filepath.Dir(file), named)
}

func compilePolicies(u *ui, paths []string) (*policy.Engine, error) {
	sources, err := readSources(paths, strings.NewReader(""), u.errs)
	if err != nil {
		return nil, err
	}
	var files []fleet.File
	for _, source := range sources {
		files = append(files, fleet.File{Path: source.Path, Content: source.Content})
	}
	all, findings := fleet.ParseFiles(files)
	policies := fleet.NewSet(all...).OfKind(fleet.KindPolicy)
	engine, wrong := policy.Compile(policies)
	if u.showLocal(append(findings, wrong...)) {
		return nil, errReported
	}
	return engine, nil
}

// showLocal prints findings that were made here, and says whether there are
// errors among them.
func (u *ui) showLocal(findings []fleet.Finding) (errors bool) {
	fleet.SortFindings(findings)
	var all []*api.Finding
	for _, f := range findings {
		severity := api.Finding_WARNING
		if f.Severity == fleet.Error {
			severity = api.Finding_ERROR
		}
		all = append(all, &api.Finding{
			Severity: severity, File: f.Position.File, Line: int32(f.Position.Line),
			Document: f.Document, Rule: f.Rule, Message: f.Message, Remedy: f.Remedy,
		})
	}
	u.showFindings(all)
	return hasErrors(all)
}

func (u *ui) showCases(results []caseResult) {
	failed := 0
	for _, r := range results {
		if r.Passed {
			u.say("ok    %s  [%s]", r.Name, r.Rule)
			continue
		}
		failed++
		_, _ = fmt.Fprintf(u.out, "%s  %s\n", u.paint(bad, "FAIL"), oneLine(r.Name))
		u.say("      %s:%d: %s", r.File, r.Line, r.Problem)
	}
	u.say("%d of %s passed.", len(results)-failed, plural(len(results), "case"))
}

func newPolicyReplayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Say what policies would have decided differently on what was issued",
		Long: `Decides again on every certificate that was issued since then: by the policies
of -f, or by those in force. It shows each that would now be refused, with the
rule that allowed it and the one that would refuse it. Nothing is changed.`,
		Example: `  rotunda policy replay --since 30d -f policies/
  rotunda policy replay --since 7d -o json`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	back := fleet.Duration(30 * 24 * time.Hour)
	cmd.Flags().Var(&span{&back}, "since", "how far to look `back`")
	paths := cmd.Flags().StringArrayP("file", "f", nil, "`path` of the policies to try instead of those in force; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		request := &api.ReplayPolicyRequest{Since: timestamppb.New(time.Now().Add(-back.Std()))}
		if len(*paths) > 0 {
			files, err := readSources(*paths, cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			request.Files = files
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			replay, err := invoke(ctx, s.ReplayPolicy, request)
			if err != nil {
				return err
			}
			return u.show(*output, replay, func() { u.showReplay(replay) })
		})
	}
	return cmd
}

func (u *ui) showReplay(replay *api.ReplayPolicyResponse) {
	if len(replay.Differences) > 0 {
		t := newTable("SERIAL", "INTENT", "AGENT", "ALLOWED BY", "REFUSED BY", "NAMES")
		for _, d := range replay.Differences {
			t.row(d.Serial, d.Intent, d.Agent, d.Was, cell{d.Now, bad}, strings.Join(d.Names, " "))
		}
		t.write(u, "")
	}
	u.say("%s issued since then, %d of which would be refused.", plural(int(replay.Certificates), "certificate"), len(replay.Differences))
}
