package policy

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
)

// costLimit is the most that one rule may cost for one decision, in CEL's
// units: a comparison costs about one.
const costLimit = 100_000

// maxExpression is the length of a condition in bytes.
const maxExpression = 8 << 10

// newLanguage is CEL with our variables. Those with a dot are variables of
// their own, so that a misspelt field is found when a rule is compiled.
func newLanguage() (*cel.Env, error) {
	texts := cel.ListType(cel.StringType)
	env, err := cel.NewEnv(
		cel.Variable("service", cel.StringType),
		cel.Variable("intent", cel.StringType),
		cel.Variable("profile", cel.StringType),
		cel.Variable("instance", cel.StringType),
		cel.Variable("agent.id", cel.StringType),
		cel.Variable("agent.region", cel.StringType),
		cel.Variable("agent.zone", cel.StringType),
		cel.Variable("agent.labels", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("names.commonName", cel.StringType),
		cel.Variable("names.uri", cel.StringType),
		cel.Variable("names.dnsNames", texts),
		cel.Variable("names.ipAddresses", texts),
		cel.Variable("usages", texts),
		cel.Variable("algorithm", cel.StringType),
		cel.Variable("lifetime", cel.DurationType),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(64),
		cel.EnableMacroCallTracking(), // conditions are shown again in reasons
		ext.Strings(ext.StringsVersion(2)),
	)
	if err != nil {
		return nil, fmt.Errorf("set up the policy language: %w", err)
	}
	return env, nil
}

// variables lets CEL look up an input's fields by name.
type variables struct {
	in *Input
}

// Parent implements cel.Activation.
func (variables) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (v variables) ResolveName(name string) (any, bool) {
	in := v.in
	switch name {
	case "service":
		return types.String(in.Service), true
	case "intent":
		return types.String(in.Intent), true
	case "profile":
		return types.String(in.Profile), true
	case "instance":
		return types.String(in.Instance), true
	case "agent.id":
		return types.String(in.Agent.ID), true
	case "agent.region":
		return types.String(in.Agent.Region), true
	case "agent.zone":
		return types.String(in.Agent.Zone), true
	case "agent.labels":
		return types.NewStringStringMap(types.DefaultTypeAdapter, in.Agent.Labels), true
	case "names.commonName":
		return types.String(in.CommonName), true
	case "names.uri":
		return types.String(in.URI), true
	case "names.dnsNames":
		return types.NewStringList(types.DefaultTypeAdapter, in.DNSNames), true
	case "names.ipAddresses":
		return types.NewStringList(types.DefaultTypeAdapter, in.IPAddresses), true
	case "usages":
		return types.NewStringList(types.DefaultTypeAdapter, in.Usages), true
	case "algorithm":
		return types.String(in.Algorithm), true
	case "lifetime":
		return types.Duration{Duration: in.Lifetime}, true
	}
	return nil, false
}

// bounds tells the estimator how large inputs are at most.
type bounds struct{}

// EstimateSize implements cost.Estimator.
func (bounds) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	if len(element.Path()) == 0 {
		return nil
	}
	switch element.Type().Kind() {
	case types.StringKind:
		return &cost.SizeEstimate{Max: maxText}
	case types.ListKind, types.MapKind:
		return &cost.SizeEstimate{Max: maxItems}
	}
	return nil
}

// EstimateCallCost implements cost.Estimator.
func (bounds) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
