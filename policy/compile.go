package policy

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/rotunda-pki/rotunda/fleet"
)

// Engine decides by the rules of a set of policies. It is immutable, and safe
// for concurrent use.
type Engine struct {
	deny, allow []rule
}

type rule struct {
	name       string // "policy/rule"
	why        string // its description
	condition  cel.Program
	conditions []condition // what is joined by && in it, where that is more than one
}

// condition is a part of a rule's condition, to name what did not hold.
type condition struct {
	text    string
	program cel.Program
}

// Compile reads the rules of the documents of kind Policy; others are passed
// over. Findings are of what is wrong with conditions, with line and column.
// With an error among them the engine is nil.
func Compile(documents []fleet.Document) (*Engine, []fleet.Finding) {
	language, err := newLanguage()
	if err != nil {
		return nil, []fleet.Finding{{Severity: fleet.Error, Rule: "policy", Message: err.Error()}}
	}
	engine := &Engine{}
	var findings []fleet.Finding
	for _, document := range documents {
		p, ok := document.Spec.(*fleet.Policy)
		if !ok {
			continue
		}
		for i, declared := range p.Rules {
			compiled, faults := compileRule(language, declared)
			at := fmt.Sprintf("spec.rules[%d].when", i)
			for _, f := range faults {
				findings = append(findings, f.finding(document, declared, at))
			}
			compiled.name = string(document.Name) + "/" + string(declared.Name)
			if declared.Effect == fleet.Deny {
				engine.deny = append(engine.deny, compiled)
			} else if declared.Effect == fleet.Allow {
				engine.allow = append(engine.allow, compiled)
			}
		}
	}
	if fleet.HasErrors(findings) {
		return nil, findings
	}
	return engine, findings
}

// celFault is one thing wrong with a condition.
type celFault struct {
	line, column int // from 1, of the condition; 0: all of it
	message      string
	remedy       string
}

func (f celFault) finding(document fleet.Document, declared fleet.Rule, at string) fleet.Finding {
	message := fmt.Sprintf("rule %s: %s", declared.Name, f.message)
	if f.line > 0 {
		message = fmt.Sprintf("rule %s: line %d, column %d of the condition: %s", declared.Name, f.line, f.column, f.message)
	}
	found := document.Finding(fleet.Error, at, "cel", message, f.remedy)
	if f.line > 0 && found.Position.Line > 0 && strings.Contains(declared.When, "\n") {
		found.Position.Line += f.line // a block: it begins below its key
	}
	return found
}

func compileRule(language *cel.Env, declared fleet.Rule) (rule, []celFault) {
	if len(declared.When) > maxExpression {
		return rule{}, []celFault{{message: fmt.Sprintf("the condition has %d bytes; it may have %d", len(declared.When), maxExpression), remedy: "split the rule"}}
	}
	checked, issues := language.Compile(strings.TrimRight(declared.When, " \n"))
	if issues.Err() != nil {
		return rule{}, faultsOf(issues)
	}
	if checked.OutputType() != cel.BoolType {
		return rule{}, []celFault{{message: fmt.Sprintf("the condition is a %s, not true or false", checked.OutputType()), remedy: "compare it with something"}}
	}
	program, err := newProgram(language, checked)
	if err != nil {
		return rule{}, []celFault{{message: err.Error()}}
	}
	return rule{
		why:        declared.Description,
		condition:  program,
		conditions: conditionsOf(language, checked),
	}, nil
}

func faultsOf(issues *cel.Issues) []celFault {
	var faults []celFault
	for _, e := range issues.Errors() {
		f := celFault{line: e.Location.Line(), column: e.Location.Column() + 1, message: e.Message}
		if strings.Contains(e.Message, "undeclared reference to") {
			f.remedy = "known are service, intent, profile, instance, agent.{id,region,zone,labels}, names.{commonName,dnsNames,ipAddresses,uri}, usages, algorithm, lifetime"
		}
		faults = append(faults, f)
	}
	return faults
}

// newProgram makes a program that cannot cost more than the limit: either it
// never does, whatever the input within its bounds, or its cost is counted as
// it runs, which takes longer.
func newProgram(language *cel.Env, checked *cel.Ast) (cel.Program, error) {
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	estimate, err := language.EstimateCost(checked, bounds{})
	if err != nil {
		return nil, fmt.Errorf("estimate the cost: %w", err)
	}
	if estimate.Max > costLimit {
		options = append(options, cel.CostLimit(costLimit))
	}
	return language.Program(checked, options...)
}

// conditionsOf splits a condition at its outermost &&.
func conditionsOf(language *cel.Env, checked *cel.Ast) []condition {
	native := checked.NativeRep()
	var parts []condition
	for _, expr := range conjuncts(native.Expr()) {
		text, err := cel.ExprToString(expr, native.SourceInfo())
		if err != nil {
			return nil // reasons then name the rule only
		}
		part, issues := language.Compile(text)
		if issues.Err() != nil {
			return nil
		}
		program, err := newProgram(language, part)
		if err != nil {
			return nil
		}
		parts = append(parts, condition{strings.Join(strings.Fields(text), " "), program})
	}
	return parts
}

func conjuncts(e ast.Expr) []ast.Expr {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.LogicalAnd {
		return []ast.Expr{e}
	}
	var all []ast.Expr
	for _, argument := range e.AsCall().Args() {
		all = append(all, conjuncts(argument)...)
	}
	return all
}
