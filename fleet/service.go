package fleet

// Service is what a team owns: processes that hold certificates.
type Service struct {
	// Who answers for the service. Every service has an owner.
	Owner Owner `json:"owner"`
	// The zone whose root and bundle the service uses. Empty: the one of the
	// whole trust domain.
	Zone string `json:"zone,omitempty"`
	// The services that call this one, and so must trust its certificates.
	// This is the only place where such edges are declared.
	Clients []Name `json:"clients,omitempty"`
	// What the service is, for people.
	Description string `json:"description,omitempty"`
}

func (*Service) kind() Kind { return KindService }

// Owner is who answers for a service.
type Owner struct {
	// The team's name.
	Team string `json:"team"`
	// How to reach the team when a rotation fails: an address or a channel.
	Contact string `json:"contact"`
	// Where it is written what to do then: an http or https URL.
	Runbook string `json:"runbook"`
}
