package fleet

// Service is what a team owns: processes that hold certificates, or an outside
// party that shakes hands with them.
type Service struct {
	// Who answers for the service. Every service has an owner.
	Owner Owner `json:"owner"`
	// The zone whose root and bundle the service uses. Empty: the one of the
	// whole trust domain.
	Zone string `json:"zone,omitempty"`
	// The services that call this one, and so must trust its certificates.
	// This is the only place where such edges are declared.
	Clients []Name `json:"clients,omitempty"`
	// The service is an outside party: no agent of ours is on its hosts, so
	// nobody here sees whom it trusts, and no intent can be of it. What
	// concerns it is asked of owner.contact; a runbook it needs none.
	Outside bool `json:"outside,omitempty"`
	// Where its clients reach it, host:port; clients verify it for the host's
	// name. Empty: where its placements listen.
	Address string `json:"address,omitempty"`
	// What the service is, for people.
	Description string `json:"description,omitempty"`
}

func (*Service) kind() Kind { return KindService }

// Owner is who answers for a service.
type Owner struct {
	// The team's name.
	Team string `json:"team"`
	// How to reach the team when a rotation fails, or before an anchor is taken
	// from an outside party: an address or a channel.
	Contact string `json:"contact"`
	// Where it is written what to do then: an http or https URL.
	// An outside party may do without.
	Runbook string `json:"runbook"`
	// Where it is posted that a change is about to touch the service, touches
	// it and is over: an https URL. Empty: the server's default, if it has one.
	Notify string `json:"notify,omitempty"`
}
