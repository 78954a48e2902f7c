package ca

import (
	"maps"
	"slices"
)

// Reasons are the CRLReasons of RFC 5280 that may stand in a full CRL, by name.
var Reasons = map[string]int{
	"unspecified": 0, "keyCompromise": 1, "cACompromise": 2, "affiliationChanged": 3, "superseded": 4,
	"cessationOfOperation": 5, "certificateHold": 6, "privilegeWithdrawn": 9, "aACompromise": 10,
}

// ReasonNames are the names of Reasons, sorted.
func ReasonNames() []string { return slices.Sorted(maps.Keys(Reasons)) }

// ReasonOf is the name of a CRL entry's reason code; "unspecified" where the
// code has none that may stand in a full CRL.
func ReasonOf(code int) string {
	for name, one := range Reasons {
		if one == code {
			return name
		}
	}
	return "unspecified"
}

// IsReason says whether the text is the name of a reason for a revocation.
func IsReason(text string) bool {
	_, ok := Reasons[text]
	return ok
}
