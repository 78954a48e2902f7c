package control

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

const shownCompromises = 100

// ListCompromises shows what was answered to, and how far that is.
func (c *Control) ListCompromises(ctx context.Context, caller Caller, req *api.ListCompromisesRequest) (*api.ListCompromisesResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListCompromisesResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		records, err := listedCompromises(ctx, tx, req)
		if err != nil {
			return err
		}
		for _, record := range records {
			var p progress
			if req.Id != "" || record.EndedAt.IsZero() { // of one that is over a list has the dates
				if p, err = c.progressOf(ctx, tx, record); err != nil {
					return err
				}
			}
			one, err := wireProgress(record, p)
			if err != nil {
				return err
			}
			response.Compromises = append(response.Compromises, one)
		}
		return nil
	})
	return response, err
}

func listedCompromises(ctx context.Context, tx *store.Tx, req *api.ListCompromisesRequest) ([]store.Compromise, error) {
	switch {
	case req.Id != "":
		one, err := tx.Compromise(ctx, req.Id)
		return []store.Compromise{one}, err
	case req.Open:
		return tx.OpenCompromises(ctx)
	}
	return tx.Compromises(ctx, shownCompromises)
}

func (c *Control) wireCompromise(ctx context.Context, tx *store.Tx, record store.Compromise) (*api.Compromise, error) {
	p, err := c.progressOf(ctx, tx, record)
	if err != nil {
		return nil, err
	}
	return wireProgress(record, p)
}

func wireProgress(record store.Compromise, p progress) (*api.Compromise, error) {
	shown := &api.Compromise{
		Id: record.ID, Kind: string(record.Kind), Name: record.Name, Rehearsal: record.Rehearsal, ContainFirst: record.ContainFirst,
		Note: record.Note, By: record.BegunBy, BegunAt: stamp(record.BegunAt), ContainedAt: stamp(record.ContainedAt),
		RecoveredAt: stamp(record.RecoveredAt), EndedAt: stamp(record.EndedAt), Steps: p.steps,
		Revocation: record.RevocationID, Rollout: record.RolloutID, TrustChange: p.trustChange,
		Remains: p.remains, RemainsUntil: stamp(p.remainsUntil),
	}
	if err := json.Unmarshal([]byte(record.Labels), &shown.Labels); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "labels of compromise %s", record.ID)
	}
	return shown, nil
}

// openCompromises are those that are not over, in words.
func openCompromises(ctx context.Context, tx *store.Tx) (words []string, err error) {
	open, err := tx.OpenCompromises(ctx)
	for _, one := range open {
		stands := "not contained"
		if !one.ContainedAt.IsZero() {
			stands = "contained, not recovered from"
		}
		what := fmt.Sprintf("%s %s is in wrong hands", one.Kind, one.Name)
		if one.Rehearsal {
			what = fmt.Sprintf("rehearsal: %s %s is treated as in wrong hands", one.Kind, one.Name)
		}
		words = append(words, fmt.Sprintf("%s since %s, %s: rotunda compromise status %s", what, one.BegunAt.Format(time.RFC3339), stands, one.ID))
	}
	return words, err
}
