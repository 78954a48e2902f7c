package capacity

import (
	"fmt"
	"math"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Ask is what is to be run, and on what.
type Ask struct {
	Placements int           `json:"placements"`
	Agents     int           `json:"agents"`
	Servers    int           `json:"servers"`
	Cores      int           `json:"cores"` // of each server
	Lifetime   time.Duration `json:"lifetimeNanoseconds"`
	RenewAt    float64       `json:"renewAt"`  // share of the lifetime after which certificates are renewed, on the whole
	Canaries   float64       `json:"canaries"` // client certificates that are signed to try a process, each rotation
	Retention  time.Duration `json:"retentionNanoseconds"`
	Outage     time.Duration `json:"outageNanoseconds"`
}

// identityInterval is how often an agent renews its own certificate, and
// connects anew: two thirds of the day that it lives.
const identityInterval = 16 * time.Hour

// busy is the share of the cores that a server is planned to use: what is above
// is for collecting garbage, checkpoints of the store, and neighbours.
const busy = 0.7

// Entries of the audit log: a certificate, and that it was rotated to.
const entriesEach = 2

// Need is what that takes. Rates are of all servers together.
type Need struct {
	Renewals    float64 `json:"renewals"` // a second, like the next three
	Signatures  float64 `json:"signatures"`
	Handshakes  float64 `json:"handshakes"`
	Entries     float64 `json:"entries"`
	PerDay      float64 `json:"bytesPerDay"`
	AtRetention float64 `json:"certificateBytesAtRetention"`
	LogPerYear  float64 `json:"logBytesPerYear"`
	Memory      float64 `json:"memoryBytes"` // of each server, like the next two
	Connections int     `json:"connections"`
	CPU         float64 `json:"cores"` // in use on the whole

	Overdue    float64       `json:"overdue"`          // placements whose renewal fell due in the outage
	Peak       float64       `json:"peak"`             // certificates a second afterwards
	Drain      time.Duration `json:"drainNanoseconds"` // until all is made up for; negative: never
	Left       time.Duration `json:"leftNanoseconds"`  // that a certificate has, when it falls due
	Expired    float64       `json:"expired"`          // placements whose certificate ends in the outage
	Limit      string        `json:"limit"`            // what gives out first, in words
	Sufficient bool          `json:"sufficient"`
}

func (a Ask) check() error {
	for _, wrong := range []struct {
		is   bool
		what string
	}{
		{a.Placements < 1, "there is at least one placement"},
		{a.Agents < 1, "there is at least one agent"},
		{a.Agents > 10_000_000 || a.Placements > 1_000_000_000, "10,000,000 agents and 1,000,000,000 placements are the most that is reckoned with"},
		{a.Servers < 1 || a.Servers > 10_000, "there are 1 to 10,000 servers"},
		{a.Cores < 1 || a.Cores > 1024, "a server has 1 to 1024 cores"},
		{a.Lifetime < 5*time.Minute || a.Lifetime > 10*365*24*time.Hour, "a certificate lives from five minutes to ten years"},
		{!(a.RenewAt > 0 && a.RenewAt < 1), "certificates are renewed after a share of their lifetime between 0 and 1"},
		{!(a.Canaries >= 0 && a.Canaries <= 100), "a rotation takes 0 to 100 canaries"},
		{a.Retention < 0 || a.Outage < 0 || a.Outage > 90*24*time.Hour, "retention is not negative, and an outage lasts 90 days at most"},
	} {
		if wrong.is {
			return fault.New(fault.Invalid, "that can't be: %s", wrong.what)
		}
	}
	return nil
}

// Reckon says what it takes.
func Reckon(a Ask, f Figures) (Need, error) {
	if err := a.check(); err != nil {
		return Need{}, err
	}
	n, placements, agents, servers := Need{}, float64(a.Placements), float64(a.Agents), float64(a.Servers)
	interval := time.Duration(float64(a.Lifetime) * a.RenewAt)
	identities := agents / identityInterval.Seconds()
	n.Renewals = placements / interval.Seconds()
	n.Signatures = n.Renewals*(1+a.Canaries) + identities
	n.Handshakes = identities
	n.Entries = n.Renewals*(entriesEach+a.Canaries) + identities
	day := (24 * time.Hour).Seconds()
	certificates, entries := n.Signatures*f.bytes("store.certificate"), n.Entries*f.bytes("store.audit")
	n.PerDay = (certificates + entries) * day
	n.AtRetention = certificates * (a.Lifetime + a.Retention).Seconds()
	n.LogPerYear = entries * day * 365
	n.Connections = int(math.Ceil(agents / servers))
	n.Memory = f.bytes("memory.server") + float64(n.Connections)*f.bytes("memory.agent")
	cpu := n.Renewals*f.seconds("cpu.renew") + (n.Signatures-n.Renewals)*f.seconds("cpu.issue") +
		n.Handshakes*f.seconds("cpu.connect") + agents*f.seconds("cpu.idle")
	n.CPU = cpu / servers
	n.afterOutage(a, f, interval, cpu)
	n.limit(a)
	return n, nil
}

// afterOutage reckons how what fell due is made up for: all agents connect
// again, and what is overdue is renewed, beside what falls due meanwhile.
func (n *Need) afterOutage(a Ask, f Figures, interval time.Duration, steady float64) {
	n.Left = a.Lifetime - interval
	n.Overdue = float64(a.Placements) * min(1, a.Outage.Seconds()/interval.Seconds())
	if over := a.Outage - n.Left; over > 0 {
		n.Expired = float64(a.Placements) * min(1, over.Seconds()/interval.Seconds())
	}
	spare := float64(a.Servers*a.Cores)*busy - steady
	each := f.seconds("cpu.renew") + a.Canaries*f.seconds("cpu.issue")
	if spare <= 0 {
		n.Drain = -1
		return
	}
	n.Peak = n.Renewals + spare/each
	n.Drain = time.Duration((n.Overdue*each + float64(a.Agents)*f.seconds("cpu.connect")) / spare * float64(time.Second))
}

func (n *Need) limit(a Ask) {
	cores := float64(a.Cores) * busy
	switch {
	case n.CPU > cores:
		n.Limit = fmt.Sprintf("CPU: a server would use %.1f cores in ordinary times, and %.1f of its %d are reckoned with", n.CPU, cores, a.Cores)
	case n.Expired > 0:
		n.Limit = fmt.Sprintf("the outage: %.0f certificates end in it, since they have %s left when they fall due; let them be renewed earlier, or live longer", n.Expired, n.Left.Round(time.Minute))
	case a.Outage > 0 && n.Drain > n.Left-a.Outage:
		n.Limit = fmt.Sprintf("CPU after the outage: it takes %s to make up for it, and the first certificates end %s after it", n.Drain.Round(time.Second), (n.Left - a.Outage).Round(time.Second))
	default:
		n.Sufficient = true
		n.Limit = fmt.Sprintf("nothing; CPU would be first, at %.0f times this load", cores/n.CPU)
	}
}
