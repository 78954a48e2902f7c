package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/fleet"
)

func newSchemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema [KIND]",
		Short: "Print the JSON Schema of documents, for editors and CI",
		Example: `  rotunda schema > rotunda.schema.json
  rotunda schema intent
  # in a YAML file: # yaml-language-server: $schema=./rotunda.schema.json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeKind,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		u := newUI(cmd)
		schema := fleet.Schema
		if len(args) > 0 {
			kind, ok := documentKind(args[0])
			if !ok {
				return usagef("there is no kind %q: it is one of %s", args[0], strings.Join(documentKindWords(), ", "))
			}
			schema = func() []byte {
				one, _ := fleet.KindSchema(fleet.Kind(kind))
				return one
			}
		}
		_, err := u.out.Write(append([]byte(strings.TrimSpace(string(schema()))), '\n'))
		return err
	}
	return cmd
}

func completeKind(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return documentKindWords(), cobra.ShellCompDirectiveNoFileComp
}

// documentKindWords are the kinds of document as they are typed.
func documentKindWords() []string {
	var words []string
	for _, kind := range fleet.Kinds() {
		words = append(words, strings.ToLower(string(kind)))
	}
	return words
}
