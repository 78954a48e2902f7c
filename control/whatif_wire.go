package control

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/whatif"
)

// wireForetold puts on the wire what a change would meet with.
func wireForetold(s whatif.Supposed, told whatif.Foretold, now time.Time) *api.WhatIfResponse {
	response := &api.WhatIfResponse{
		At: stamp(now), Change: s.Proposal.String(), Old: s.Trust.Old, Stops: s.Stops,
		Levels: wireTally(told.Levels), Takes: span(told.Takes), Assumes: told.Assumes, Ends: stamp(told.Ends),
	}
	if s.Kind != whatif.WithdrawNow {
		response.New = s.Trust.New
	}
	if s.Bridge {
		response.Bridge = &api.WhatIfBridge{Possible: s.BridgeLess == "", Reason: s.BridgeLess, Useless: told.Useless}
	}
	wireTold(response, told)
	return response
}

// wireReprofiled puts on the wire what a change of a profile would meet with.
func wireReprofiled(r whatif.Reprofiled, told whatif.Foretold, now time.Time) *api.WhatIfResponse {
	response := &api.WhatIfResponse{
		At: stamp(now), Change: r.Proposal.String(), Old: string(r.Name), Stops: r.Stops, Takes: span(told.Takes), Assumes: told.Assumes,
	}
	for _, one := range told.Figures {
		response.Figures = append(response.Figures, &api.WhatIfFigure{What: one.What, Before: one.Before, After: one.After})
	}
	for _, one := range told.Uses {
		response.Uses = append(response.Uses, &api.WhatIfUse{Intent: string(one.Intent), Service: string(one.Service), Placements: uint32(one.Placements)})
	}
	wireTold(response, told)
	return response
}

// wireTold puts on the wire what is foretold of any change.
func wireTold(response *api.WhatIfResponse, told whatif.Foretold) {
	for _, one := range told.Breaks {
		response.Breaks = append(response.Breaks, &api.WhatIfBreak{
			Client: string(one.Client), Server: string(one.Server), Reasons: wireReasons(one.Reasons),
		})
	}
	for _, one := range told.Obstacles {
		response.Obstacles = append(response.Obstacles, &api.WhatIfObstacle{
			Phase: string(one.Phase), Who: one.Who, Reason: one.Reason, Remedy: one.Remedy, Service: string(one.Service), Certain: one.Certain,
		})
	}
	for _, one := range told.Phases {
		response.Phases = append(response.Phases, wirePhase(one))
	}
	for _, one := range told.Waves {
		response.Waves = append(response.Waves, &api.WhatIfWaves{Window: string(one.Window), End: stamp(one.End), Renewed: stamp(one.Renewed), Why: one.Why})
	}
	for _, contact := range told.Ask {
		response.Ask = append(response.Ask, wireContact(contact))
	}
}

func wirePhase(p whatif.PhasePlan) *api.WhatIfPhase {
	phase := &api.WhatIfPhase{Phase: string(p.Phase), Does: p.Does, Operator: p.Operator, Takes: span(p.Takes), EndsBy: stamp(p.EndsBy), Begins: stamp(p.Begins), Ends: stamp(p.Ends), Unknown: p.Unknown}
	if p.Parties != (graph.Tally{}) {
		phase.Parties = wireTally(p.Parties)
	}
	for _, one := range p.Restarts {
		restart := &api.WhatIfRestart{Cluster: one.Cluster, Kind: one.Kind, AtOnce: uint32(one.AtOnce), Cause: one.Cause}
		for _, member := range one.Members {
			restart.Members = append(restart.Members, member.Target+" on agent "+member.Agent)
		}
		phase.Restarts = append(phase.Restarts, restart)
	}
	for _, kind := range slices.Sorted(maps.Keys(p.Renewals)) {
		phase.Renewals = append(phase.Renewals, &api.WhatIfCount{Kind: kind, Count: uint32(p.Renewals[kind])})
	}
	for _, wait := range p.Waits {
		phase.Waits = append(phase.Waits, &api.TrustWait{Who: wait.Who, Reason: wait.Reason, Remedy: wait.Remedy})
	}
	return phase
}

func wireContact(c graph.Contact) *api.ServiceContact {
	return &api.ServiceContact{Owner: wireOwner(c.Owner), Outside: c.Outside, Services: wireNames(c.Services)}
}

// span is nil where nothing takes any time.
func span(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
