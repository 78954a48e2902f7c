package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
)

// rotatingServer grants two rotations and shows pictures of how they go.
type rotatingServer struct{ placementServer }

func (*rotatingServer) Rotate(context.Context, *connect.Request[api.RotateRequest]) (*connect.Response[api.RotateResponse], error) {
	return connect.NewResponse(&api.RotateResponse{AuditId: "0199-b1", Placements: []string{"p-1", "p-2"}, Affected: []*api.PlacementStatus{
		{Id: "p-1", Intent: "cache", Agent: "host-1", Generation: 4, LastGeneration: 4, State: api.State_STATE_STEADY},
		{Id: "p-2", Intent: "cache", Agent: "host-2", Generation: 4, LastGeneration: 5, State: api.State_STATE_FAILED,
			Failure: &api.Failure{Generation: 5, Step: "prove", Reason: "an old one"}},
	}}), nil
}

func picture(first, second *api.PlacementStatus) *api.ListPlacementsResponse {
	list := &api.ListPlacementsResponse{Placements: []*api.PlacementStatus{{Id: "p-0", Intent: "web", State: api.State_STATE_FAILED, Failure: &api.Failure{Generation: 9}}}}
	for i, p := range []*api.PlacementStatus{first, second} {
		if p != nil {
			p.Id, p.Intent, p.Agent = []string{"p-1", "p-2"}[i], "cache", []string{"host-1", "host-2"}[i]
			list.Placements = append(list.Placements, p)
		}
	}
	return list
}

func at(generation uint64, state api.State) *api.PlacementStatus {
	return &api.PlacementStatus{Generation: generation, LastGeneration: generation, State: state}
}

// waits runs rotate --wait while the pictures are shown to it.
func waits(t *testing.T, pictures ...*api.ListPlacementsResponse) (code int, errs string) {
	t.Helper()
	s := &rotatingServer{placementServer{pictures: make(chan *api.ListPlacementsResponse)}}
	credentials := newOperator(t, s)
	ended, fed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(fed)
		for _, one := range pictures {
			select {
			case s.pictures <- one:
			case <-ended:
				t.Error("it did not wait for all that came")
				return
			}
		}
	}()
	code, out, errs := rotunda("rotate", "cache", "--wait", "--credentials", credentials)
	close(ended)
	<-fed
	if !strings.Contains(out, "2 placements will rotate. Audit entry 0199-b1.") {
		t.Errorf("output:\n%s", out)
	}
	return code, errs
}

func TestRotateWaits(t *testing.T) {
	steady, rotating := api.State_STATE_STEADY, api.State_STATE_ROTATING
	code, errs := waits(t,
		picture(at(4, steady), at(4, api.State_STATE_FAILED)), // nothing has begun yet
		picture(at(5, rotating), at(4, steady)),               // switched to, and not proven
		picture(at(5, steady), at(5, steady)),                 // a failed generation that came through late is not what was asked for
		nil,                                                   // the server restarts
		picture(at(5, steady), at(6, rotating)),               // still not proven
		picture(at(5, steady), at(6, steady)))
	if !strings.Contains(errs, "0 of 2 placements rotated, 1 failed before and may hold the others") {
		t.Errorf("nothing is said of what failed before:\n%s", errs)
	}
	if code != exitOK || !strings.Contains(errs, "1 of 2 placements rotated\n") || !strings.Contains(errs, "2 of 2 placements rotated after ") || strings.Count(errs, "2 of 2") != 1 {
		t.Errorf("exit %d:\n%s", code, errs)
	}
}

// Who waits is told what for.
func TestRotateSaysWhatIsInTheWay(t *testing.T) {
	away := at(4, api.State_STATE_STEADY)
	away.Host, away.Reason, away.Besides = "db-2", "generation 4 is good; its agent is not connected", "its agent is not connected"
	code, errs := waits(t, picture(at(5, api.State_STATE_STEADY), away), picture(at(5, api.State_STATE_STEADY), at(6, api.State_STATE_STEADY)))
	if code != exitOK || !strings.Contains(errs, "1 of 2 placements rotated; cache on db-2: its agent is not connected\n") || !strings.Contains(errs, "2 of 2 placements rotated after ") {
		t.Errorf("exit %d:\n%s", code, errs)
	}
}

func TestRotateEndsWithAFailure(t *testing.T) {
	broken := at(4, api.State_STATE_FAILED)
	broken.Failure = &api.Failure{Generation: 6, Step: "prove", Reason: "the old one is served", Restored: true}
	code, errs := waits(t, picture(at(5, api.State_STATE_STEADY), at(4, api.State_STATE_FAILED)), picture(at(5, api.State_STATE_STEADY), broken))
	if code != exitError || !strings.Contains(errs, "1 of 2 placements rotated; 1 failed: cache on host-2: generation 6 failed at prove: the old one is served") ||
		!strings.Contains(errs, "hint: rotunda describe placement") {
		t.Errorf("exit %d:\n%s", code, errs)
	}
}

// What no intent wants any more is not waited for.
func TestRotateWaitsForNoOrphan(t *testing.T) {
	code, errs := waits(t, picture(at(5, api.State_STATE_STEADY), nil))
	if code != exitOK || !strings.Contains(errs, "1 of 2 placements rotated, 1 not wanted any more after ") {
		t.Errorf("exit %d:\n%s", code, errs)
	}
}

// What is switched to and not yet proven is not what was waited for.
func TestRotatingIsNotRotated(t *testing.T) {
	a := awaitOf(&api.RotateResponse{Affected: []*api.PlacementStatus{{Id: "p-1", Generation: 4}}})
	if a.see(picture(at(5, api.State_STATE_ROTATING), nil).Placements); a.over() {
		t.Error("it ends before the proof")
	}
	if a.see(picture(at(5, api.State_STATE_STEADY), nil).Placements); !a.over() {
		t.Error("it does not end")
	}
}

func TestInterruptedWaitSaysThatRotationsGoOn(t *testing.T) {
	a := awaitOf(&api.RotateResponse{Affected: []*api.PlacementStatus{{Id: "p-1"}}})
	if err := a.verdict(&ui{}, time.Second); err == nil || !strings.Contains(err.Error(), "interrupted: 0 of 1 placement rotated; the others go on without you") {
		t.Errorf("error %v", err)
	}
}

func TestPace(t *testing.T) {
	for _, c := range []struct {
		placements int
		over       time.Duration
		want       string
	}{
		{1, time.Hour, ""}, {5, 0, ""}, {600, 10 * time.Minute, " within 10m, about 1 a second"}, {20, 10 * time.Minute, " within 10m, about 2 a minute"},
		{20, 10 * time.Hour, " within 10h, about 2 an hour"}, {3, 50 * 24 * time.Hour, " within 50d, one in 16d"},
	} {
		if got := pace(&api.RotateResponse{Over: durationpb.New(c.over)}, c.placements); got != c.want {
			t.Errorf("%d over %s: %q, want %q", c.placements, c.over, got, c.want)
		}
	}
	if got := pace(&api.RotateResponse{}, 100); got != "" {
		t.Errorf("nothing was said: %q", got)
	}
}
