package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const rootHelp = `Rotunda issues and rotates TLS certificates, keys and trust bundles, and proves
each rotation by a handshake with the running process.

Commands that speak with a server find it like this, first hit wins:

  1. --server URL, --credentials DIR, --socket PATH or --state DIR
  2. $ROTUNDA_SERVER, $ROTUNDA_CREDENTIALS, $ROTUNDA_SOCKET
  3. ~/.config/rotunda (cert.pem, key.pem, ca.pem, client.yaml)
  4. /run/rotunda/admin.sock

Exit codes: 0 done; 1 failed or refused; 2 plan found differences; 64 the
command line is wrong.`

const rootExample = `  rotunda plan -f fleet/                  # what would change; exits 2 if anything would
  rotunda apply -f fleet/                 # change it, in one transaction
  rotunda status                          # what is served everywhere, and since when proven
  rotunda get certificates --expiring 24h
  rotunda rotate orders-db --reason "key seen in a core dump" --new-key`

// newRootCommand builds the whole command line. It does no work beyond that:
// the agent is the same binary and pays for what happens here.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:               "rotunda",
		Short:             "Rotate TLS certificates, and prove it",
		Long:              rootHelp,
		Example:           rootExample,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	for _, g := range commandGroups() {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, newCommand := range g.commands {
			cmd := newCommand()
			cmd.GroupID = g.id
			root.AddCommand(cmd)
		}
	}
	root.SetHelpCommandGroupID("tool")
	strict(root)
	return root
}

type commandGroup struct {
	id, title string
	commands  []func() *cobra.Command
}

// commandGroups lists every command under the heading that help shows it by.
func commandGroups() []commandGroup {
	return []commandGroup{
		{"declare", "Declare:", []func() *cobra.Command{
			newPlanCommand, newApplyCommand, newDeleteCommand, newPolicyCommand, newSchemaCommand,
		}},
		{"look", "Look:", []func() *cobra.Command{
			newStatusCommand, newWatchCommand, newSlotsCommand, newNoticesCommand, newRevocationsCommand, newGraphCommand, newImpactCommand, newSimulateCommand, newCapacityCommand, newGetCommand, newDescribeCommand, newAuditCommand, newProbeCommand,
		}},
		{"act", "Act:", []func() *cobra.Command{
			newRotateCommand, newRevokeCommand, newCompromiseCommand, newRolloutCommand, newTrustCommand, newResumeCommand, newTokenCommand, newOperatorCommand, newAuthorityCommand, newEmergencyCommand,
		}},
		{"run", "Run:", []func() *cobra.Command{
			newInitCommand, newServerCommand, newBackupCommand, newStoreCommand, newRestoreCommand, newRetentionCommand, newAgentCommand, newExecCommand, newSyntheticCommand, newBenchCommand,
		}},
		{"tool", "More:", []func() *cobra.Command{
			newTargetsCommand, newVersionCommand, newCompletionCommand,
		}},
	}
}

// strict makes every misuse of the command line a usage error: wrong flags,
// wrong arguments, and a word after a group that names none of its commands.
func strict(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{err}
	})
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = needsSubcommand
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return &usageError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

func needsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	cmd.SuggestionsMinimumDistance = 2
	var hint string
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(": did you mean %s?", strings.Join(near, ", "))
	}
	return usagef("%s has no command %q%s", cmd.CommandPath(), args[0], hint)
}

// usageError is a command line that cannot be understood, whatever the state
// of the world.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}
