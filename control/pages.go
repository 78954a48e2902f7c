package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/store"
)

// pageOfFleet is how many agents, or placements, are read together: a fleet is not
// in memory as a whole.
const pageOfFleet = 1000

// pages has all of a kind looked at, in the order of their ids.
func pages[T any](ctx context.Context, read func(ctx context.Context, after string, limit int) ([]T, error), id func(T) string, look func([]T) error) error {
	for after := ""; ; {
		page, err := read(ctx, after, pageOfFleet)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := look(page); err != nil {
			return err
		}
		after = id(page[len(page)-1])
	}
}

func pagesOfAgents(ctx context.Context, tx *store.Tx, look func([]store.Agent) error) error {
	return pages(ctx, tx.AgentsAfter, func(a store.Agent) string { return a.ID }, look)
}

// pagesOfActive is pagesOfAgents without those that are retired.
func pagesOfActive(ctx context.Context, tx *store.Tx, look func([]store.Agent) error) error {
	return pages(ctx, tx.ActiveAgentsAfter, func(a store.Agent) string { return a.ID }, look)
}

func pagesOfPlacements(ctx context.Context, tx *store.Tx, look func([]store.Placement) error) error {
	return pages(ctx, tx.PlacementsAfter, func(p store.Placement) string { return p.ID }, look)
}

// eachAgent is pagesOfAgents, one after the other.
func eachAgent(ctx context.Context, tx *store.Tx, look func(store.Agent) error) error {
	return pagesOfAgents(ctx, tx, oneByOne(look))
}

// eachActive is pagesOfActive, one after the other.
func eachActive(ctx context.Context, tx *store.Tx, look func(store.Agent) error) error {
	return pagesOfActive(ctx, tx, oneByOne(look))
}

func oneByOne[T any](look func(T) error) func([]T) error {
	return func(page []T) error {
		for _, one := range page {
			if err := look(one); err != nil {
				return err
			}
		}
		return nil
	}
}
