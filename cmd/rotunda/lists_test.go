package main

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
)

// pagedServer has a fleet of five, and gives two of them at once.
type pagedServer struct {
	apiconnect.UnimplementedOperatorServiceHandler
	fault error // of the last page
}

func (s *pagedServer) ListPlacements(_ context.Context, r *connect.Request[api.ListPlacementsRequest]) (*connect.Response[api.ListPlacementsResponse], error) {
	if r.Msg.Limit == 0 || !r.Msg.Unsettled || r.Msg.Intent != "web" {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("asked for %v", r.Msg))
	}
	response := &api.ListPlacementsResponse{}
	if r.Msg.After == nil {
		response.RolledBack = "said once"
	}
	first := map[string]int{"": 0, "1": 2, "3": 4}[r.Msg.After.GetInstance()]
	if first == 4 && s.fault != nil {
		return nil, s.fault
	}
	for i := first; i < min(first+2, 5); i++ {
		response.Placements = append(response.Placements, &api.PlacementStatus{Id: fmt.Sprint(i), Intent: "web", Service: fmt.Sprint("s", 5-i)})
		response.Next = &api.PlacementKey{Instance: fmt.Sprint(i)}
	}
	if first == 4 {
		response.Next = nil
	}
	return connect.NewResponse(response), nil
}

// A list is whole and in order however many calls it took, or it is not shown.
func TestPlacementsArePutTogether(t *testing.T) {
	s := &pagedServer{}
	credentials := newOperator(t, s)
	for _, command := range [][]string{{"status"}, {"get", "placements"}} {
		code, out, errs := rotunda(append(command, "--credentials", credentials, "--intent", "web", "--unsettled", "-o", "json")...)
		var list struct {
			Placements []struct{ ID string }
			RolledBack string
			Next       any
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil || code != exitOK {
			t.Fatalf("%v: exit %d, %v\n%s", command, code, err, errs)
		}
		if got := fmt.Sprint(list.Placements); got != "[{4} {3} {2} {1} {0}]" || list.RolledBack != "said once" || list.Next != nil {
			t.Errorf("%v: %s", command, out)
		}
		s.fault = connect.NewError(connect.CodeUnavailable, fmt.Errorf("stopping"))
		if code, out, _ := rotunda(append(command, "--credentials", credentials, "--intent", "web", "--unsettled")...); code != exitError || out != "" {
			t.Errorf("%v: exit %d of a list that broke off\n%s", command, code, out)
		}
		s.fault = nil
	}
}
