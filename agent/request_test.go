package agent

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
)

// What expires is asked for while a server still holds up a call for the rest,
// and requests that come meanwhile go together.
func TestExpiringHasALaneOfItsOwn(t *testing.T) {
	var mu sync.Mutex
	var calls [][]string
	held, release := make(chan struct{}), make(chan struct{})
	e := &Executor{issues: make(chan issueCall), ExecutorOptions: ExecutorOptions{
		Issue: func(_ context.Context, requests []*api.PlacementRequest) ([]*api.IssueResult, error) {
			var names []string
			for _, request := range requests {
				names = append(names, request.PlacementId)
			}
			mu.Lock()
			calls = append(calls, names)
			mu.Unlock()
			if names[0] == "first" {
				close(held)
				<-release
			}
			return make([]*api.IssueResult, len(requests)), nil
		},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { e.issueAll(ctx); close(ended) }()
	var asking sync.WaitGroup
	ask := func(name string, expiring bool) {
		if _, err := e.issue(t.Context(), &api.PlacementRequest{PlacementId: name}, expiring); err != nil {
			t.Error(err)
		}
	}
	asking.Go(func() { ask("first", false) })
	<-held
	answer := make(chan issueAnswer, 2)
	e.issues <- issueCall{&api.PlacementRequest{PlacementId: "second"}, false, answer}
	e.issues <- issueCall{&api.PlacementRequest{PlacementId: "third"}, false, answer}
	ask("urgent", true) // or the test never ends
	close(release)
	<-answer
	<-answer
	asking.Wait()
	cancel()
	<-ended
	want := [][]string{{"first"}, {"urgent"}, {"second", "third"}}
	if !slices.EqualFunc(calls, want, slices.Equal) {
		t.Errorf("calls were %v, want %v", calls, want)
	}
}
