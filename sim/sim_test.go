package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/schedule"
)

const (
	days      = 90
	outageAt  = 30 * 24 * time.Hour
	rotateAt  = 60 * 24 * time.Hour
	clusters  = 200
	ofCluster = 3
	singles   = 400
	loss      = 3 // percent of the messages
)

var begin = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// profile is a profile as an operator writes it: what is not said here is
// fleet's default.
func profile(t *testing.T, lifetime string) *fleet.Profile {
	t.Helper()
	documents, findings := fleet.ParseFiles([]fleet.File{{Path: "p.yaml", Content: []byte(
		"apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: p}\nspec: {lifetime: " + lifetime + ", usages: [serverAuth]}\n")}})
	if fleet.HasErrors(findings) || len(documents) != 1 {
		t.Fatalf("profile: %v", findings)
	}
	return documents[0].Spec.(*fleet.Profile)
}

func newFleet(t *testing.T) *fleetSim {
	day, days3 := profile(t, "24h"), profile(t, "72h")
	s := &fleetSim{
		t: t, now: begin, random: rand.New(rand.NewPCG(1, 2)), wishes: map[string]wish{}, lossPercent: loss,
		// The longest outage that every profile promises to outlive.
		outageBegin: begin.Add(outageAt), outageEnd: begin.Add(outageAt + min(day.RideOut.Std(), days3.RideOut.Std())),
	}
	add := func(c *cluster, p *fleet.Profile, host string) {
		one := &placement{fleetSim: s, id: "placement-of-" + host, cluster: c, profile: p, member: schedule.Member{Agent: host, Target: "redis"}}
		one.d = wanted(one)
		s.placements = append(s.placements, one)
		if c != nil {
			c.members = append(c.members, one.member)
		}
	}
	for i := range clusters {
		c := &cluster{name: fmt.Sprint("cluster-", i), holds: map[string]*hold{}, asking: map[string]asking{}}
		for j := range ofCluster {
			add(c, []*fleet.Profile{day, days3}[i%2], fmt.Sprintf("host-%d-%d", i, j))
		}
	}
	for i := range singles {
		add(nil, []*fleet.Profile{day, days3}[i%2], fmt.Sprint("single-", i))
	}
	return s
}

// TestNinetyDays: a thousand placements, all issued at one moment; messages are
// lost; on the 30th day the control plane is away for as long as the profiles
// promise to outlive, on the 60th everything is rotated.
func TestNinetyDays(t *testing.T) {
	s := newFleet(t)
	for _, p := range s.placements {
		s.at(begin, p.wake)
	}
	s.at(begin.Add(rotateAt), s.rotateAll)
	s.run(begin.Add(days * 24 * time.Hour))

	s.checkClusters(t)
	s.checkRate(t)
	s.checkMargin(t)
	s.checkCount(t)
}

// checkClusters: no two members of a cluster are away together, and not for
// want of occasions. Those issued together had parts of the window of their
// own.
func (s *fleetSim) checkClusters(t *testing.T) {
	t.Logf("%d certificates; %d slots begun, %d left alone, %d verdicts to wait, %d times two of a cluster together",
		s.issued, s.slots, s.alone, s.waited, s.together)
	if s.together > 0 {
		t.Errorf("%d times two members of a cluster were away together", s.together)
	}
	if s.slots < 10_000 || s.waited < 10 {
		t.Errorf("only %d slots begun and %d verdicts to wait: this shows nothing", s.slots, s.waited)
	}
	mixed := 0
	for i := 0; i < clusters*ofCluster; i += ofCluster {
		p := s.placements[i]
		opens, closes := schedule.Window(p.profile, begin, begin.Add(p.profile.Lifetime.Std()))
		third, parts := closes.Sub(opens)/ofCluster, map[time.Duration]bool{}
		for _, member := range s.placements[i : i+ofCluster] {
			parts[member.renewals[0].due.Sub(opens)/third] = true
		}
		if len(parts) < ofCluster {
			mixed++
		}
	}
	// Certificates were issued some seconds after the beginning, so a moment at
	// a border may be counted to the neighbour.
	if mixed > 1 {
		t.Errorf("in %d of %d clusters members that were issued together were due in the same part of the window", mixed, clusters)
	}
}

// catchUp is how long after the outage renewals that fell into it are made up
// for: the longest pause between two attempts is an hour.
const catchUp = 2 * time.Hour

// touched says whether the outage had a part in what was due or done then.
func (s *fleetSim) touched(at time.Time) bool {
	return !at.Before(s.outageBegin.Add(-time.Hour)) && at.Before(s.outageEnd.Add(catchUp))
}

// checkRate: no hour has more than three times the mean number of ordinary
// renewals. Hours of the outage, and those in which it is made up for, are
// shown by themselves; so is the rotation, whose pace is its own.
func (s *fleetSim) checkRate(t *testing.T) {
	var ordinary, forced [days * 24]int
	total, hours := 0, 0
	for _, p := range s.placements {
		for _, r := range p.renewals {
			hour := int(r.committed.Sub(begin) / time.Hour)
			if r.forced {
				forced[hour]++
			} else {
				ordinary[hour]++
			}
		}
	}
	most, mostAt, outage := 0, 0, 0
	for hour, n := range ordinary {
		if s.touched(begin.Add(time.Duration(hour) * time.Hour)) {
			outage = max(outage, n)
			continue
		}
		total, hours = total+n, hours+1
		if n > most {
			most, mostAt = n, hour
		}
	}
	mean := float64(total) / float64(hours)
	sorted := slices.Sorted(slices.Values(ordinary[:]))
	t.Logf("renewals an hour: mean %.1f, most %d (%.2f of the mean, in hour %d), median %d, p99 %d; after the outage %d; forced %d",
		mean, most, float64(most)/mean, mostAt, sorted[len(sorted)/2], sorted[len(sorted)*99/100], outage, slices.Max(forced[:]))
	if float64(most) > 3*mean {
		t.Errorf("in hour %d %d placements renewed, %.2f times the mean", mostAt, most, float64(most)/mean)
	}
	for hour := 0; hour < len(ordinary); hour += 12 {
		if hour < 96 || hour/24 >= int(outageAt.Hours())/24 && hour/24 < int(outageAt.Hours())/24+2 || hour/24 >= int(rotateAt.Hours())/24 && hour/24 < int(rotateAt.Hours())/24+3 {
			t.Logf("  day %2d: %v", hour/24, ordinary[hour:hour+12])
		}
	}
}

// checkMargin: what was replaced had rideOut left, unless the outage kept its
// renewal off. Nothing ever ran out, the outage or not.
func (s *fleetSim) checkMargin(t *testing.T) {
	least, leastOutage := 1.0, 1.0 // in shares of rideOut
	for _, p := range s.placements {
		for _, r := range p.renewals {
			share := r.left.Seconds() / p.profile.RideOut.Std().Seconds()
			if r.left <= 0 {
				t.Errorf("%s ran out %s before its successor was proven at %s", p.id, -r.left, r.committed)
			}
			switch {
			case s.touched(r.due) || s.touched(r.requested):
				leastOutage = min(leastOutage, share)
			case r.left < p.profile.RideOut.Std():
				t.Errorf("%s had only %s left when its successor, due at %s, was proven at %s; rideOut is %s", p.id, r.left, r.due, r.committed, p.profile.RideOut)
			default:
				least = min(least, share)
			}
		}
	}
	t.Logf("least left: %.2f of rideOut; where the outage had a part %.2f", least, leastOutage)
	if leastOutage >= 1 {
		t.Error("the outage kept nothing off: this shows nothing")
	}
}

// checkCount: each placement was renewed as often as its profile demands, and
// once for the rotation, if it was not renewed anyway before its turn came.
func (s *fleetSim) checkCount(t *testing.T) {
	const whole = days * 24 * time.Hour
	for _, p := range s.placements {
		opens, _ := p.profile.RenewalWindow()
		ordinary, forced, met := 0, 0, 0
		for _, r := range p.renewals {
			if r.forced {
				forced++
			} else {
				ordinary++
			}
			if asked := begin.Add(rotateAt); !r.forced && r.requested.After(asked.Add(-time.Minute)) && r.requested.Before(asked.Add(schedule.DefaultOver(len(s.placements))+time.Minute)) {
				met++
			}
		}
		// The slowest renews when rideOut is left each time, but for what the
		// outage put off and the life that began anew at the rotation.
		longest := p.profile.Lifetime.Std() - p.profile.RideOut.Std()
		least, most := int((whole-s.outageEnd.Sub(s.outageBegin)-2*longest)/longest), int(whole/opens)
		if ordinary < least || ordinary > most || forced > 1 || forced+met == 0 {
			t.Errorf("%s was renewed %d times, and %d times by force; %d to %d and 1 are right", p.id, ordinary, forced, least, most)
		}
		if standing := p.record.Standing(); standing == nil || !p.record.Generation(standing.Generation).Valid(s.now) {
			t.Errorf("%s has no valid certificate at the end", p.id)
		}
	}
}
