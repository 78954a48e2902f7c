package control

import (
	"context"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/store"
)

// ListAuditWitnesses shows who outside cosigned how much of the audit log.
func (c *Control) ListAuditWitnesses(ctx context.Context, caller Caller, _ *api.ListAuditWitnessesRequest) (*api.ListAuditWitnessesResponse, error) {
	if err := authorize(caller, "audit.list"); err != nil {
		return nil, err
	}
	list, _, err := c.WitnessFigures(ctx)
	return list, err
}

// WitnessFigures is what metrics show of the witnesses, and when.
func (c *Control) WitnessFigures(ctx context.Context) (list *api.ListAuditWitnessesResponse, now time.Time, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		list, err = c.shownWitnesses(ctx, tx)
		return err
	})
	return list, c.now(), err
}

func (c *Control) shownWitnesses(ctx context.Context, tx *store.Tx) (*api.ListAuditWitnessesResponse, error) {
	size, _, err := c.newestCheckpoint(ctx, tx)
	if err != nil {
		return nil, err
	}
	list := &api.ListAuditWitnessesResponse{Size: size, Required: uint32(c.witnesses.Required)}
	if list.Published, _, err = c.published(ctx, tx); err != nil {
		return nil, err
	}
	since, err := tx.SignedAfter(ctx, list.Published)
	if err != nil {
		return nil, err
	}
	list.UnpublishedSince = stamp(since)
	all, err := tx.LogWitnesses(ctx)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		behind, err := tx.SignedAfter(ctx, one.Size)
		if err != nil {
			return nil, err
		}
		shown := &api.AuditWitness{
			Name: one.Name, Key: one.Key, Url: one.URL, State: c.witnessState(one, size), Size: one.Size, CosignedAt: stamp(one.CosignedAt),
			BehindSince: stamp(behind), Tries: uint32(one.Tries), FailingSince: stamp(one.FailingSince), LastError: one.LastError,
			Alarm: one.Alarm, AlarmAt: stamp(one.AlarmAt),
		}
		list.Witnesses = append(list.Witnesses, shown)
	}
	return list, nil
}

func (c *Control) witnessState(one store.LogWitness, size uint64) string {
	declared := false
	for _, peer := range c.witnesses.Ask {
		declared = declared || peer.Name == one.Name && peer.Key == one.Key
	}
	switch {
	case !declared:
		return "undeclared"
	case !one.AlarmAt.IsZero():
		return "alarm"
	case !one.FailingSince.IsZero():
		return "failing"
	case one.Size < size:
		return "behind"
	}
	return "current"
}

// unpublishedAfter is how long checkpoints may wait for cosignatures before
// status says so.
const unpublishedAfter = time.Minute

// logWords say what status has to say of the log and its witnesses.
func (c *Control) logWords(ctx context.Context, tx *store.Tx) (alarms []string, unpublished string, err error) {
	unplaced, err := unplacedWords(ctx, tx)
	if unplaced != "" {
		alarms = append(alarms, unplaced)
	}
	if err != nil || len(c.witnesses.Ask) == 0 {
		return alarms, "", err
	}
	list, err := c.shownWitnesses(ctx, tx)
	if err != nil {
		return nil, "", err
	}
	for _, one := range list.Witnesses {
		if one.State == "alarm" {
			alarms = append(alarms, fmt.Sprintf("witness %s of the audit log, since %s: %s", one.Name, one.AlarmAt.AsTime().Format(time.RFC3339), one.Alarm))
		}
	}
	if since := list.UnpublishedSince; since != nil && tx.Now.Sub(since.AsTime()) > unpublishedAfter {
		unpublished = fmt.Sprintf("since %s no checkpoint of the audit log has the %d cosignatures that are required; the one that is published is of %d entries, the newest of %d",
			since.AsTime().Format(time.RFC3339), list.Required, list.Published, list.Size)
	}
	return alarms, unpublished, nil
}
