package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
)

// listedAtOnce is how many placements, or agents, a call asks for: no server has a
// large fleet in memory for it.
const listedAtOnce = 2000

// listPlacements lists those that the filter chooses, in the order of their services.
func listPlacements(ctx context.Context, s *server, u *ui, filter *api.ListPlacementsRequest) (*api.ListPlacementsResponse, error) {
	var read atomic.Int64
	defer u.progressOf(func() string { return fmt.Sprintf("reading placements: %d", read.Load()) })()
	page := proto.CloneOf(filter)
	page.Limit = listedAtOnce
	var whole *api.ListPlacementsResponse
	for {
		list, err := invoke(ctx, s.ListPlacements, page)
		if err != nil {
			return nil, err
		}
		if whole == nil {
			whole = list
		} else {
			whole.Placements = append(whole.Placements, list.Placements...)
		}
		page.After, whole.Next = list.Next, nil
		if page.After == nil {
			break
		}
		read.Store(int64(len(whole.Placements)))
	}
	slices.SortFunc(whole.Placements, control.InOrder)
	u.hosts = hostsOf(whole.Placements)
	return whole, nil
}

// listAgents lists all agents, by id.
func listAgents(ctx context.Context, s *server) (*api.ListAgentsResponse, error) {
	whole := &api.ListAgentsResponse{}
	for page := (&api.ListAgentsRequest{Limit: listedAtOnce}); ; {
		list, err := invoke(ctx, s.ListAgents, page)
		if err != nil {
			return nil, err
		}
		whole.Agents = append(whole.Agents, list.Agents...)
		if page.After = list.Next; page.After == "" {
			return whole, nil
		}
	}
}
