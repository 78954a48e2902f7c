package rotation

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// RenewAt is the moment of the ordinary renewal of a generation: a point of its
// window that depends on placement and generation only, so that a fleet's
// renewals are spread and an agent that starts anew comes to the same one.
func (d Desired) RenewAt(g Generation) time.Time {
	after, before := d.window(g)
	width := before.Sub(after)
	if width <= 0 {
		return after
	}
	return after.Add(time.Duration(share(d.Placement, g.Number) * float64(width)))
}

// share is a number from 0 to 1, excluding 1, that is always the same for the
// same generation of the same placement.
func share(placement string, generation uint64) float64 {
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], generation)
	sum := sha256.Sum256(append([]byte(placement), number[:]...))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
}

// window is the one that the control plane gave for the generation. Without
// one, the window opens after two thirds of the life and closes early enough
// for the longest outage.
func (d Desired) window(g Generation) (after, before time.Time) {
	if d.Window.Generation == g.Number && !d.Window.After.IsZero() {
		after, before = d.Window.After, d.Window.Before
	} else {
		after = g.Leaf.NotBefore.Add(life(g) * 2 / 3)
		before = g.Leaf.NotAfter.Add(-d.RideOut)
	}
	if before.Before(after) {
		before = after
	}
	return after, before
}

// urgentAt is when the end of a certificate is so near that a hold no longer
// counts: a late rotation is worse than one at a bad moment.
func (d Desired) urgentAt(g Generation) time.Time {
	return g.Leaf.NotAfter.Add(-max(d.RideOut/2, life(g)/20))
}

func life(g Generation) time.Duration { return g.Leaf.NotAfter.Sub(g.Leaf.NotBefore) }
