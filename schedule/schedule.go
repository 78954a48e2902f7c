// Package schedule decides when a placement's turn is: which member of a
// cluster may leave its steady state now, which part of the renewal window is
// whose, and how a rotation of many is spread over time.
//
// It is pure: facts and a time in, decisions and reasons out.
package schedule

import (
	"crypto/sha256"
	"slices"
	"strings"
)

// Member is a member of a cluster: a running process on an agent's host.
// Several placements of one target are one member.
type Member struct {
	Agent  string
	Target string
}

// Order is a stable hash: it spreads what is sorted by it, and is the same
// wherever and whenever it is reckoned.
func Order(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return string(sum[:])
}

func byOrder(of func(string) string) func(a, b string) int {
	return func(a, b string) int { return strings.Compare(of(a), of(b)) }
}

// distinct is members, each once, in a stable order.
func distinct(cluster string, members []Member) []Member {
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b Member) int {
		return strings.Compare(Order(cluster, a.Agent, a.Target), Order(cluster, b.Agent, b.Target))
	})
	return slices.Compact(sorted)
}
