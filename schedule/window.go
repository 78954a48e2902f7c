package schedule

import (
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
)

// workTime is what a renewal may take, with its turn in the cluster, before it
// is begun so late that rideOut is touched. Of a narrow window it is a part.
const workTime = 10 * time.Minute

// Window is when a certificate should be renewed (RFC 9773). It is reckoned
// from the end, and closes early enough for the work to be done by then. For a
// leaf that has less than the profile's lifetime, as when its issuer's end cut
// it short, it is made smaller in proportion: by the whole lifetime each such
// leaf would be due when it is issued, and so would the next one.
func Window(profile *fleet.Profile, issued, notAfter time.Time) (after, before time.Time) {
	opens, closes := profile.RenewalWindow()
	closes -= max(0, min(workTime, (closes-opens)/20))
	whole := profile.Lifetime.Std()
	if life := notAfter.Sub(issued); life < whole-min(time.Minute, whole/100) { // less is the issue's own time
		part := max(0, life.Seconds()) / whole.Seconds()
		opens, closes, whole = scaled(opens, part), scaled(closes, part), max(0, life)
	}
	born := notAfter.Add(-whole)
	return born.Add(opens).UTC(), born.Add(closes).UTC()
}

func scaled(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// Part is the part of a renewal window (RFC 9773) that belongs to a member of
// a cluster: the window is divided among its members, in the order of a stable
// hash. So certificates that were issued together are not renewed together at
// two members, and the parts of many clusters lie evenly over the window. Who is
// in no cluster has the whole.
func Part(cluster string, self Member, members []Member, after, before time.Time) (time.Time, time.Time) {
	width := before.Sub(after)
	if cluster == "" || width <= 0 {
		return after, before
	}
	all := distinct(cluster, append([]Member{self}, members...))
	share := width / time.Duration(len(all))
	for rank, member := range all {
		if member == self {
			after = after.Add(share * time.Duration(rank))
			break
		}
	}
	return after, after.Add(share)
}
