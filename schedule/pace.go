package schedule

import (
	"slices"
	"time"
)

// PaceEach is the pause between two placements of a rotation of many, unless
// the operator says how long the whole is to take: sixty a minute.
const PaceEach = time.Second

// DefaultOver is how long a rotation of so many placements takes at sixty a
// minute; one goes at once.
func DefaultOver(placements int) time.Duration {
	return time.Duration(max(placements-1, 0)) * PaceEach
}

// Turn is when a placement begins, after the first one.
type Turn struct {
	Placement string
	After     time.Duration
}

// Pace spreads the beginnings of placements evenly, in the order of a stable
// hash: the first at once, the last after over. Neighbours by name (members of
// a cluster, hosts in a rack) end up far apart.
func Pace(placements []string, over time.Duration) []Turn {
	sorted := slices.Clone(placements)
	slices.SortFunc(sorted, byOrder(func(id string) string { return Order("pace", id) }))
	turns := make([]Turn, len(sorted))
	for i, id := range sorted {
		turns[i] = Turn{Placement: id}
		if i > 0 {
			turns[i].After = time.Duration(float64(over) * float64(i) / float64(len(sorted)-1))
		}
	}
	return turns
}
