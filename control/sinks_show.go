package control

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/store"
)

// ListAuditSinks shows how far each sink has taken the audit log.
func (c *Control) ListAuditSinks(ctx context.Context, caller Caller, _ *api.ListAuditSinksRequest) (*api.ListAuditSinksResponse, error) {
	if err := authorize(caller, "audit.list"); err != nil {
		return nil, err
	}
	return c.auditSinks(ctx)
}

func (c *Control) auditSinks(ctx context.Context) (*api.ListAuditSinksResponse, error) {
	response := &api.ListAuditSinksResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		size, err := tx.TreeSize(ctx)
		if err != nil {
			return err
		}
		sinks, err := tx.AuditSinks(ctx)
		if err != nil {
			return err
		}
		response.Size = size
		for _, one := range sinks {
			shown, err := c.shownSink(ctx, tx, one, size)
			if err != nil {
				return err
			}
			response.Sinks = append(response.Sinks, shown)
		}
		return nil
	})
	return response, err
}

func (c *Control) shownSink(ctx context.Context, tx *store.Tx, one store.AuditSink, size uint64) (*api.AuditSink, error) {
	shown := &api.AuditSink{
		Name: one.Name, Kind: one.Kind, Address: one.Address, Taken: one.Taken, Lag: size - min(one.Taken, size),
		TakenAt: stamp(one.TakenAt), Tries: uint32(one.Tries), FailingSince: stamp(one.FailingSince), LastError: one.LastError,
	}
	if shown.Lag > 0 {
		oldest, err := tx.AuditEntries(ctx, one.Taken, 1)
		if err != nil {
			return nil, err
		}
		for _, entry := range oldest {
			if decoded, err := audit.Decode(entry.Content); err == nil {
				shown.BehindSince = stamp(decoded.Time)
			}
		}
	}
	_, declared := c.sinks.Load(one.Name)
	switch {
	case !declared:
		shown.State = "undeclared"
	case !one.FailingSince.IsZero():
		shown.State = "failing"
	case shown.Lag > 0:
		shown.State = "behind"
	default:
		shown.State = "current"
	}
	return shown, nil
}

// SinkFigures is what metrics show of the sinks, and when.
func (c *Control) SinkFigures(ctx context.Context) ([]*api.AuditSink, time.Time, error) {
	list, err := c.auditSinks(ctx)
	return list.GetSinks(), c.now(), err
}
