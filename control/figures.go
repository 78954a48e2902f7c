package control

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/store"
)

// figures count since the process began.
type figures struct {
	issued, refused atomic.Uint64
	rotated, failed atomic.Uint64
}

// Figures are what the metrics endpoint shows.
type Figures struct {
	Issued, Refused uint64 // certificates, since the process began
	Rotated, Failed uint64 // rotations reported, since the process began
	Streams         int    // agents connected
	ByState         map[api.State]int
	NextExpiry      time.Time                // of a certificate in use; zero when there is none
	ClockOffsets    map[string]time.Duration // by agent connected: its clock minus ours
}

// Figures counts what there is now.
func (c *Control) Figures(ctx context.Context) (Figures, error) {
	out := Figures{
		Issued: c.figures.issued.Load(), Refused: c.figures.refused.Load(),
		Rotated: c.figures.rotated.Load(), Failed: c.figures.failed.Load(),
		Streams: c.presence.count(), ByState: map[api.State]int{}, ClockOffsets: c.presence.offsets(),
	}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		placements, err := tx.Placements(ctx)
		for _, placement := range placements {
			report, err := storedReport(placement)
			if err != nil {
				return err
			}
			out.ByState[report.State]++
			if expiry := report.NotAfter; expiry != nil && !placement.Orphan {
				if at := expiry.AsTime(); out.NextExpiry.IsZero() || at.Before(out.NextExpiry) {
					out.NextExpiry = at
				}
			}
		}
		return err
	})
	return out, err
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
		response.Checkpoint, err = tx.NewestCheckpoint(ctx)
		return err
	})
}
