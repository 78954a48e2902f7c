package main

import (
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// errDifferences ends a plan that found something to do. It is no failure
// and prints nothing: the plan has been printed.
var errDifferences = errors.New("the server differs from the files")

// errReported ends a command that has already said on stderr what is wrong.
var errReported = errors.New("reported")

// report tells the operator what went wrong and returns the exit code.
func report(cmd *cobra.Command, err error) int {
	if errors.Is(err, errDifferences) {
		return exitDifferences
	}
	if errors.Is(err, errReported) {
		return exitError
	}
	ui := newUI(cmd)
	if usage, ok := errors.AsType[*usageError](err); ok {
		ui.fail(usage.Error(), fmt.Sprintf("%s --help shows how it is used", cmd.CommandPath()))
		return exitUsage
	}
	if misused(err) {
		ui.fail(err.Error(), cmd.CommandPath()+" --help shows how it is used")
		return exitUsage
	}
	what, remedy := explain(err)
	ui.fail(what, remedy)
	return exitError
}

// misused says whether cobra itself refused the flags, after it parsed them.
func misused(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "required flag(s)") || strings.HasPrefix(text, "if any flags in the group")
}

// explain splits an error into what went wrong and what to do about it.
func explain(err error) (what, remedy string) {
	local, isLocal := errors.AsType[*fault.Error](err)
	remote, isRemote := errors.AsType[*connect.Error](err)
	switch {
	case isLocal && isRemote: // the connection failed; Connect only passes it on
		err = local
	case isRemote:
		return explainRemote(remote)
	}
	remedy = remedyOf(err)
	return withoutRemedy(err.Error(), remedy), remedy
}

// remedyOf is the outermost remedy in err's tree, the first of several.
func remedyOf(err error) (remedy string) {
	if local, ok := err.(*fault.Error); ok && local.Remedy != "" {
		return local.Remedy
	}
	switch wrapping := err.(type) {
	case interface{ Unwrap() error }:
		return remedyOf(wrapping.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range wrapping.Unwrap() {
			if remedy == "" {
				remedy = remedyOf(one)
			}
		}
	}
	return remedy
}

// explainRemote reads an error that the server sent. Its text ends in the
// remedy in brackets, where there is one.
func explainRemote(err *connect.Error) (what, remedy string) {
	what, remedy = cutRemedy(err.Message())
	if what == "" {
		what = "the server answered: " + err.Code().String()
	}
	if remedy != "" {
		return what, remedy
	}
	switch err.Code() {
	case connect.CodePermissionDenied, connect.CodeUnauthenticated:
		remedy = "these credentials may not do that: use an operator's (rotunda operator create NAME) or the admin socket"
	case connect.CodeUnavailable, connect.CodeResourceExhausted:
		remedy = "try again in a moment"
	case connect.CodeDeadlineExceeded:
		remedy = "the server took too long: look at its log, or give it more time with --timeout"
	case connect.CodeInternal, connect.CodeUnknown, connect.CodeDataLoss:
		remedy = "the server's log says more"
	case connect.CodeUnimplemented:
		remedy = "this server is older than this command line, or it is no Rotunda server: compare rotunda version"
	}
	return what, remedy
}

func withoutRemedy(text, remedy string) string {
	if remedy == "" {
		return text
	}
	return strings.Replace(text, " ("+remedy+")", "", 1)
}

// cutRemedy takes the last bracketed part off the end of text.
func cutRemedy(text string) (what, remedy string) {
	if !strings.HasSuffix(text, ")") {
		return text, ""
	}
	depth := 0
	for i := len(text) - 1; i > 0; i-- {
		switch text[i] {
		case ')':
			depth++
		case '(':
			if depth--; depth == 0 && text[i-1] == ' ' {
				return text[:i-1], text[i+1 : len(text)-1]
			}
		}
	}
	return text, ""
}
