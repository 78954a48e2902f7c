package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// reviewExceptions warns of exceptions that are given and would excuse nobody: of
// a rule that there is not, over, or for a subject that is not known. None is an
// error: a host may come yet, and one that is over may stay in a repository.
func (r *review) reviewExceptions(ctx context.Context, tx *store.Tx) error {
	for _, one := range r.changes {
		exception, ok := one.document.Spec.(*fleet.Exception)
		if !ok || one.op == api.Difference_DELETE {
			continue
		}
		warn := func(path, message, remedy string) {
			r.findings = append(r.findings, one.document.Finding(fleet.Warning, path, "excuses-nobody", message, remedy))
		}
		if rules := []string{ruleAdopt, ruleDrain}; !slices.Contains(rules, exception.Rule) {
			warn("spec.rule", "there is no rule "+printable(exception.Rule), "write "+strings.Join(rules, " or "))
		}
		if !exception.InForce(tx.Now) {
			warn("spec.until", "it is over since "+time.Time(exception.Until).UTC().Format("2006-01-02 15:04"), "choose a later end, or delete it")
		}
		message, remedy, err := r.unknownSubject(ctx, tx, exception.Subject)
		if err != nil {
			return err
		}
		if message != "" {
			warn("spec.subject", message, remedy)
		}
	}
	return nil
}

// unknownSubject says what is wrong with whom an exception is for; empty: nothing.
func (r *review) unknownSubject(ctx context.Context, tx *store.Tx, subject string) (message, remedy string, err error) {
	kind, name, _ := strings.Cut(subject, "/")
	known, list := false, ""
	switch strings.ToLower(kind) {
	case "agent":
		_, err := tx.Agent(ctx, strings.ToLower(name))
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return "", "", err
		}
		known, list = err == nil, "rotunda get agents lists the ids"
	case "placement":
		_, err := tx.Placement(ctx, strings.ToLower(name))
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return "", "", err
		}
		known, list = err == nil, "rotunda get placements -o json lists the ids"
	case "intent":
		_, known = r.after.set.Intent(fleet.Name(strings.ToLower(name)))
		list = "rotunda get intents lists those that are"
	case "service":
		_, known = r.after.set.Service(fleet.Name(strings.ToLower(name)))
		list = "rotunda get services lists those that are"
	case "operator": // anybody may be made one
		known = name != ""
		list = "write operator/NAME"
	default:
		return printable(subject) + " is no subject", "write agent/ID, placement/ID, intent/NAME, service/NAME or operator/NAME", nil
	}
	if known {
		return "", "", nil
	}
	return "there is no " + printable(subject), list, nil
}
