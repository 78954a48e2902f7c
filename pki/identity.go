package pki

import (
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Role is the second segment of a reserved SPIFFE path, /rotunda/ROLE/ID.
// Only Rotunda itself gives out identities with such a path.
type Role string

// The reserved roles.
const (
	RoleServer   Role = "server"
	RoleAgent    Role = "agent"
	RoleOperator Role = "operator"
	RoleCanary   Role = "canary"
)

const reservedRoot = "/rotunda"

// ReservedPath tells whether the path of id is Rotunda's own.
func ReservedPath(id spiffeid.ID) bool {
	return id.Path() == reservedRoot || strings.HasPrefix(id.Path(), reservedRoot+"/")
}

// ServerID is the identity of a server of the trust domain.
func ServerID(td spiffeid.TrustDomain, id string) (spiffeid.ID, error) {
	return RoleID(td, RoleServer, id)
}

// RenewExpired stands before the CSR in the statement that the key of an expired
// identity signs to get another, so that no other signature of its passes for one.
const RenewExpired = "rotunda renew expired identity\n"

// AgentID is the identity of an agent.
func AgentID(td spiffeid.TrustDomain, id string) (spiffeid.ID, error) {
	return RoleID(td, RoleAgent, id)
}

// OperatorID is the identity of an operator.
func OperatorID(td spiffeid.TrustDomain, id string) (spiffeid.ID, error) {
	return RoleID(td, RoleOperator, id)
}

// CanaryID is the identity of a canary.
func CanaryID(td spiffeid.TrustDomain, id string) (spiffeid.ID, error) {
	return RoleID(td, RoleCanary, id)
}

// RoleID is the identity spiffe://TRUST-DOMAIN/rotunda/ROLE/ID.
func RoleID(td spiffeid.TrustDomain, role Role, id string) (spiffeid.ID, error) {
	if td.IsZero() {
		return spiffeid.ID{}, fault.New(fault.Invalid, "identity of %s %q needs a trust domain", role, id)
	}
	full, err := spiffeid.FromSegments(td, "rotunda", string(role), id)
	if err != nil {
		return spiffeid.ID{}, fault.Wrap(fault.Invalid, err, "identity of %s %q", role, id)
	}
	return full, nil
}

// ParseRoleID takes a reserved identity apart into its role and ID.
func ParseRoleID(id spiffeid.ID) (Role, string, error) {
	segments := strings.Split(strings.TrimPrefix(id.Path(), "/"), "/")
	if len(segments) != 3 || segments[0] != "rotunda" {
		return "", "", fault.New(fault.Invalid, "%q is not of the form spiffe://TRUST-DOMAIN/rotunda/ROLE/ID", id)
	}
	switch role := Role(segments[1]); role {
	case RoleServer, RoleAgent, RoleOperator, RoleCanary:
		return role, segments[2], nil
	}
	return "", "", fault.New(fault.Invalid, "%q: the role must be server, agent, operator or canary", id)
}
