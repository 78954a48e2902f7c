// Package rollout decides what comes next in the fleet: which member of a
// cluster may leave its steady state now, which part of the renewal window is
// whose, and when each placement's turn comes in a rotation of many. Its trust
// graph says who can verify whom as things are, and what a change reaches.
//
// It is pure: facts and a time in, decisions and reasons out. The control
// plane and the simulator run the same code.
package rollout

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

// order is a stable hash: it spreads what is sorted by it, and is the same
// wherever and whenever it is reckoned.
func order(parts ...string) string {
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
		return strings.Compare(order(cluster, a.Agent, a.Target), order(cluster, b.Agent, b.Target))
	})
	return slices.Compact(sorted)
}
