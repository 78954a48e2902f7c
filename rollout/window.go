package rollout

import (
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
)

// workTime is what a renewal may take, with its turn in the cluster, before it
// is begun so late that rideOut is touched. Of a narrow window it is a part.
const workTime = 10 * time.Minute

// Window is when a certificate should be renewed (RFC 9773). It is reckoned
// from the end, so a leaf that was cut short by its issuer's end keeps the
// whole of rideOut. It closes early enough for the work to be done by then.
func Window(profile *fleet.Profile, notAfter time.Time) (after, before time.Time) {
	opens, closes := profile.RenewalWindow()
	closes -= max(0, min(workTime, (closes-opens)/20))
	issued := notAfter.Add(-profile.Lifetime.Std())
	return issued.Add(opens).UTC(), issued.Add(closes).UTC()
}

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
