package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// awaited is the rotations that somebody waits for.
type awaited struct {
	through map[string]uint64 // placement → the generation that must be passed
	done    map[string]*api.PlacementStatus
	failed  map[string]*api.PlacementStatus
	gone    map[string]bool // no intent wants it any more
	before  map[string]bool // it failed before this rotation, and has not tried again
	held    string          // what is said of the first that has something in its way
}

func awaitOf(done *api.RotateResponse) *awaited {
	a := &awaited{
		through: map[string]uint64{}, done: map[string]*api.PlacementStatus{}, failed: map[string]*api.PlacementStatus{},
		gone: map[string]bool{}, before: map[string]bool{},
	}
	for _, p := range done.Affected {
		a.through[p.Id] = max(p.LastGeneration, p.Generation)
	}
	return a
}

// see takes what the placements are now, all of them. A new generation counts
// when it stands: what it is proven to be is in its level.
func (a *awaited) see(placements []*api.PlacementStatus) {
	present := map[string]bool{}
	a.held = ""
	for _, p := range placements {
		through, mine := a.through[p.Id]
		if !mine {
			continue
		}
		present[p.Id] = true
		delete(a.failed, p.Id)
		delete(a.before, p.Id)
		switch {
		case p.State == api.State_STATE_ORPHAN:
			a.gone[p.Id] = true
		case p.State == api.State_STATE_FAILED && p.Failure.GetGeneration() > through:
			a.failed[p.Id] = p
		case p.State == api.State_STATE_FAILED:
			a.before[p.Id] = true
		case p.State == api.State_STATE_STEADY && p.Generation > through:
			a.done[p.Id] = p
		case a.held == "":
			a.held = inTheWay(p)
		}
	}
	for id := range a.through {
		if !present[id] {
			a.gone[id] = true
		}
	}
}

// inTheWay is what a placement waits for, in words; empty: nothing is said of that.
func inTheWay(p *api.PlacementStatus) string {
	words := p.Besides
	if p.State == api.State_STATE_WAITING {
		words = p.Reason
	}
	if words == "" {
		return ""
	}
	return fmt.Sprintf("%s on %s: %s", p.Intent, printable(cmp.Or(p.Host, p.Agent)), printable(words))
}

// over says whether there is nothing to wait for. A failure ends it: the
// intent's breaker holds the others until somebody mends the cause.
func (a *awaited) over() bool {
	return len(a.failed) > 0 || len(a.done)+len(a.gone) >= len(a.through)
}

func (a *awaited) words() string {
	text := fmt.Sprintf("%d of %s rotated", len(a.done), plural(len(a.through), "placement"))
	if len(a.before) > 0 {
		text += fmt.Sprintf(", %d failed before and may hold the others (rotunda status says why, rotunda resume lets them go on)", len(a.before))
	}
	if len(a.gone) > 0 {
		text += fmt.Sprintf(", %d not wanted any more", len(a.gone))
	}
	if a.held != "" && len(a.failed) == 0 {
		text += "; " + a.held
	}
	return text
}

// oneIntent is the intent of all the placements; empty: they have several.
func oneIntent(placements []*api.PlacementStatus) (intent string) {
	for i, p := range placements {
		if i > 0 && p.Intent != intent {
			return ""
		}
		intent = p.Intent
	}
	return intent
}

// awaitRotation follows the placements until all have rotated or one failed.
func awaitRotation(ctx context.Context, s *server, u *ui, done *api.RotateResponse) error {
	a, began := awaitOf(done), time.Now()
	shown, end := u.counter(a.words())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	filter := &api.ListPlacementsRequest{Intent: oneIntent(done.Affected)}
	err := follow(ctx, s, true, func(err error) { shown(a.words() + "; " + lostReason(err)) }, func(ctx context.Context) (bool, error) {
		stream, err := s.WatchPlacements(ctx, connect.NewRequest(filter))
		return drain(stream, err, func(list *api.ListPlacementsResponse) {
			if a.see(list.Placements); a.over() {
				stop() // the verdict says the rest
				return
			}
			shown(a.words())
		})
	})
	end()
	if err != nil {
		return err
	}
	return a.verdict(u, time.Since(began))
}

func (a *awaited) verdict(u *ui, took time.Duration) error {
	if len(a.failed) > 0 {
		var names []string
		for _, p := range a.failed {
			names = append(names, fmt.Sprintf("%s on %s: %s", p.Intent, u.hosts.name(p.Agent), reason(p)))
		}
		return fault.New(fault.Unavailable, "%s; %d failed: %s", a.words(), len(a.failed), strings.Join(names, "; ")).
			WithRemedy("rotunda describe placement shows what was seen; mend the cause, then rotunda resume")
	}
	if !a.over() {
		return fault.New(fault.Unavailable, "interrupted: %s; the others go on without you", a.words()).
			WithRemedy("rotunda watch shows how it goes")
	}
	u.note("%s after %s.", a.words(), short(durationpb.New(took)))
	return nil
}
