package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

func newCompletionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands and names in your shell",
		Example: `  rotunda completion bash > /etc/bash_completion.d/rotunda
  source <(rotunda completion zsh)`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		root, out := cmd.Root(), cmd.OutOrStdout()
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(out, true)
		case "zsh":
			return root.GenZshCompletion(out)
		case "fish":
			return root.GenFishCompletion(out, true)
		}
		return root.GenPowerShellCompletionWithDesc(out)
	}
	return cmd
}

// lister fetches the names that may stand somewhere on the command line.
type lister func(ctx context.Context, s *server) ([]string, error)

type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeFirst completes the first argument with names from the server. A
// shell waits for it, so it gives up within two seconds, and silently:
// nothing to offer is no error at a prompt.
func completeFirst(conn *connection, names lister) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return conn.offer(cmd, names, prefix), cobra.ShellCompDirectiveNoFileComp
	}
}

func (c *connection) offer(cmd *cobra.Command, names lister, prefix string) []string {
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, 2*time.Second)
	defer cancel()
	u := newUI(cmd)
	u.asks, u.loud = false, false // the shell owns the terminal now
	s, err := c.dial(u)
	if err != nil {
		return nil
	}
	defer s.close()
	all, err := names(ctx, s)
	if err != nil {
		return nil
	}
	var fitting []string
	for _, name := range all {
		if strings.HasPrefix(name, prefix) {
			fitting = append(fitting, name)
		}
	}
	return fitting
}

func intentNames(ctx context.Context, s *server) ([]string, error) {
	return documentNames("Intent")(ctx, s)
}

func documentNames(kind string) lister {
	return func(ctx context.Context, s *server) ([]string, error) {
		response, err := invoke(ctx, s.ListDocuments, &api.ListDocumentsRequest{Kind: kind})
		if err != nil {
			return nil, err
		}
		var names []string
		for _, document := range response.Documents {
			names = append(names, document.Name)
		}
		return names, nil
	}
}

func documentKeys(ctx context.Context, s *server) ([]string, error) {
	response, err := invoke(ctx, s.ListDocuments, &api.ListDocumentsRequest{})
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, document := range response.Documents {
		keys = append(keys, document.Kind+"/"+document.Name)
	}
	return keys, nil
}

func agentIDs(ctx context.Context, s *server) ([]string, error) {
	response, err := invoke(ctx, s.ListAgents, &api.ListAgentsRequest{Limit: listedAtOnce})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, agent := range response.Agents {
		ids = append(ids, agent.Id)
	}
	return ids, nil
}

func tokenIDs(ctx context.Context, s *server) ([]string, error) {
	response, err := invoke(ctx, s.ListTokens, &api.ListTokensRequest{})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, token := range response.Tokens {
		if token.State == "open" {
			ids = append(ids, token.Id)
		}
	}
	return ids, nil
}
