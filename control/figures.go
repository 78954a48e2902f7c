package control

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/store"
)

// figures count since the process began.
type figures struct {
	issued, refused atomic.Uint64

	mu              sync.Mutex
	rotated, failed uint64
	took            Histogram

	fleet   seldom[Fleet]
	regions seldom[[]*api.RegionStatus]
}

// Close ends what is still counted for the metrics, and returns when that has
// ended.
func (c *Control) Close() {
	c.figures.fleet.close()
	c.figures.regions.close()
}

// Histogram counts durations by the bounds that they stay within.
type Histogram struct {
	Count   uint64
	Sum     time.Duration
	Buckets map[time.Duration]uint64 // upper bound → how many within it
}

// tookBounds span a file switch on an idle host to a database that restarts.
var tookBounds = []time.Duration{
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute,
}

func (h *Histogram) add(d time.Duration) {
	h.Count, h.Sum = h.Count+1, h.Sum+d
	if h.Buckets == nil {
		h.Buckets = map[time.Duration]uint64{}
	}
	for _, bound := range tookBounds {
		if d <= bound {
			h.Buckets[bound]++
		} else {
			h.Buckets[bound] += 0 // a bound with none in it is shown too
		}
	}
}

// count takes in one report after it was stored.
func (f *figures) count(n news) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case n.failed:
		f.failed++
	case n.rotated:
		f.rotated++
		if took := n.after.GetTook().AsDuration(); took > 0 && n.after.Level == api.Level_LEVEL_PROVEN {
			f.took.add(took)
		}
	}
}

// Figures are what the metrics endpoint shows.
type Figures struct {
	Issued, Refused uint64                   // certificates, since the process began
	Rotated, Failed uint64                   // rotations reported, since the process began
	Took            Histogram                // from request to proof, of rotations that were proven
	Streams         int                      // agents connected
	ClockOffsets    map[string]time.Duration // by agent connected: its clock minus ours
	Commits         store.Commits
	Fleet           Fleet
}

// Fleet is what the store knows of all placements.
type Fleet struct {
	ByState    map[api.State]int
	ByLevel    map[api.Level]int // what is shown of what is in use
	NextExpiry time.Time         // of a certificate in use; zero when there is none
	// When the list of each authority that ends first ends, by its name; and
	// how many revocations wait for what takes a certificate's place.
	ListsEnd    map[string]time.Time
	Revocations int
	Synthetics  []Synthetic
	Compromises int // that are not contained, or not recovered from
}

// Figures counts what there is now. What this process counts itself is there
// even when the store does not answer.
func (c *Control) Figures(ctx context.Context) (Figures, error) {
	out := Figures{
		Issued: c.figures.issued.Load(), Refused: c.figures.refused.Load(),
		Streams: c.presence.count(), ClockOffsets: c.presence.offsets(), Commits: c.db.Commits(),
	}
	c.figures.mu.Lock()
	out.Rotated, out.Failed, out.Took = c.figures.rotated, c.figures.failed, c.figures.took
	out.Took.Buckets = maps.Clone(out.Took.Buckets)
	c.figures.mu.Unlock()
	var err error
	if out.Fleet, err = c.figures.fleet.get(ctx, c.countFleet); err != nil {
		return out, err
	}
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		if out.Fleet.Synthetics, err = c.synthetics(ctx, tx); err != nil {
			return err
		}
		return countRevocations(ctx, tx, &out.Fleet)
	})
	return out, err
}

func (c *Control) countFleet(ctx context.Context) (Fleet, error) {
	fleet := Fleet{ByState: map[api.State]int{}, ByLevel: map[api.Level]int{}}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		return pagesOfPlacements(ctx, tx, func(page []store.Placement) error {
			for _, placement := range page {
				if err := fleet.count(placement); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return fleet, err
}

func (f *Fleet) count(placement store.Placement) error {
	if placement.Orphan {
		f.ByState[api.State_STATE_ORPHAN]++
		return nil
	}
	report, err := storedReport(placement)
	if err != nil {
		return err
	}
	f.ByState[report.State]++
	f.ByLevel[report.Level]++
	if at := placement.NotAfter; !at.IsZero() && (f.NextExpiry.IsZero() || at.Before(f.NextExpiry)) {
		f.NextExpiry = at
	}
	return nil
}

// RegionFigures is Regions for who asks often.
func (c *Control) RegionFigures(ctx context.Context) ([]*api.RegionStatus, error) {
	return c.figures.regions.get(ctx, c.Regions)
}

func countRevocations(ctx context.Context, tx *store.Tx, fleet *Fleet) error {
	open, err := tx.OpenRevocations(ctx)
	if err != nil {
		return err
	}
	fallen, err := tx.OpenCompromises(ctx)
	if err != nil {
		return err
	}
	fleet.Revocations, fleet.Compromises, fleet.ListsEnd = len(open), len(fallen), map[string]time.Time{}
	all, err := tx.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, authority := range all {
		heads, err := tx.CRLHeads(ctx, authority.ID)
		if err != nil {
			return err
		}
		for _, head := range heads {
			if end, known := fleet.ListsEnd[authority.Name]; !known || head.NextUpdate.Before(end) {
				fleet.ListsEnd[authority.Name] = head.NextUpdate
			}
		}
	}
	return nil
}

// Info says what this server is.
func (c *Control) Info(ctx context.Context, caller Caller, _ *api.InfoRequest) (*api.InfoResponse, error) {
	if err := authorize(caller, "info"); err != nil {
		return nil, err
	}
	response := &api.InfoResponse{
		TrustDomain: c.domain.Name(), Version: c.version, LogKey: c.logKey,
		AgentAddress: c.agentAddress, Caller: caller.String(),
	}
	bundle, err := c.DomainBundle(ctx)
	if err != nil {
		return nil, err
	}
	response.BundleDigest, response.Anchors = bundle.Digest().String(), bundle.DER()
	return response, c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		if response.Epoch, err = tx.Epoch(ctx); err != nil {
			return err
		}
		if response.RolledBack, err = rolledBackIn(ctx, tx); err != nil {
			return err
		}
		response.Checkpoint, err = tx.NewestCheckpoint(ctx)
		return err
	})
}
