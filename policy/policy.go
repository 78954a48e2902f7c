// Package policy decides who may have which certificate. It is pure: the same
// rules and the same input give the same decision, so that a decision can be
// tested before it counts and replayed after.
//
// Rules are conditions in CEL, declared in documents of kind Policy. What no
// rule allows is refused, and a rule that denies wins over all that allow. A
// decision names the rule that made it.
//
// These variables stand for the certificate that is asked for:
//
//	service, intent, profile, instance       string
//	agent.id, agent.region, agent.zone       string
//	agent.labels                             map of strings: the attested labels
//	names.commonName, names.uri              string
//	names.dnsNames, names.ipAddresses        list of strings
//	usages                                   list of strings: serverAuth, clientAuth
//	algorithm                                string: ecdsa-p256, …
//	lifetime                                 duration
package policy

import (
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
)

// DefaultDeny is the rule that a decision names when no rule of a policy
// made it.
const DefaultDeny = "default deny"

// Input is what a decision is about.
type Input struct {
	Service, Intent, Profile, Instance string

	Agent Agent

	CommonName            string
	DNSNames, IPAddresses []string
	URI                   string
	Usages                []string
	Algorithm             string
	Lifetime              time.Duration
}

// Agent is the agent that asks, as the control plane attests it.
type Agent struct {
	ID, Region, Zone string
	Labels           map[string]string
}

// InputOf is the input for a placement of the agent that has an identity.
func InputOf(placement fleet.Expanded, agent fleet.Agent) Input {
	in := Input{
		Service:  string(placement.Service),
		Intent:   string(placement.Placement.Intent),
		Profile:  string(placement.ProfileName),
		Instance: string(placement.Placement.Instance),
		Agent:    Agent{ID: agent.ID, Region: agent.Region, Zone: agent.Zone, Labels: agent.Labels},
	}
	if names := placement.Names; names != nil {
		in.CommonName, in.DNSNames, in.URI = names.CommonName, names.DNS, names.URI
		for _, ip := range names.IPs {
			in.IPAddresses = append(in.IPAddresses, ip.String())
		}
	}
	if p := placement.Profile; p != nil {
		in.Algorithm, in.Lifetime = string(p.Algorithm), p.Lifetime.Std()
		for _, usage := range p.Usages {
			in.Usages = append(in.Usages, string(usage))
		}
	}
	return in
}

// Decision is an answer, with the rule that gave it.
type Decision struct {
	Allowed bool
	Rule    string // "policy/rule", or DefaultDeny
	Reason  string // in words
}

// Bounds of an input. The cost of a rule is estimated for the largest one.
const (
	maxText  = 512 // bytes
	maxItems = 256 // of a list or a map
)

// exceeds says in what an input is larger than any rule is prepared for.
func (in *Input) exceeds() error {
	lists := [][]string{
		{in.Service, in.Intent, in.Profile, in.Instance, in.Agent.ID, in.Agent.Region, in.Agent.Zone, in.CommonName, in.URI, in.Algorithm},
		in.DNSNames, in.IPAddresses, in.Usages,
	}
	for _, list := range lists {
		if len(list) > maxItems {
			return fmt.Errorf("a list has %d entries; it may have %d", len(list), maxItems)
		}
		for _, text := range list {
			if len(text) > maxText {
				return fmt.Errorf("a text has %d bytes; it may have %d", len(text), maxText)
			}
		}
	}
	if len(in.Agent.Labels) > maxItems {
		return fmt.Errorf("the agent has %d labels; it may have %d", len(in.Agent.Labels), maxItems)
	}
	for key, value := range in.Agent.Labels {
		if max(len(key), len(value)) > maxText {
			return fmt.Errorf("a label has more than %d bytes", maxText)
		}
	}
	return nil
}
