package control

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// mostNotices bounds how many notices are listed.
const mostNotices = 1000

// ListNotices lists what owners are told of changes.
func (c *Control) ListNotices(ctx context.Context, caller Caller, req *api.ListNoticesRequest) (*api.ListNoticesResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListNoticesResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		notices, err := tx.Notices(ctx, req.Sent, mostNotices)
		response.Notices = wireNotices(notices)
		return err
	})
	return response, err
}

// RetryNotices lets notices that were given up be posted once more, to where
// the documents say now.
func (c *Control) RetryNotices(ctx context.Context, caller Caller, req *api.RetryNoticesRequest) (*api.RetryNoticesResponse, error) {
	if err := authorize(caller, "notice.retry"); err != nil {
		return nil, err
	}
	response := &api.RetryNoticesResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		proto.Reset(response)
		notices, err := givenUp(ctx, tx, req.Id)
		if err != nil || len(notices) == 0 {
			return err
		}
		w, err := c.worldAt(ctx, tx)
		if err != nil {
			return err
		}
		for _, n := range notices {
			url := c.notifyURLOf(w, fleet.Name(n.Service))
			if url == "" {
				url = n.URL
			}
			if err := tx.RetryNotice(ctx, n.ID, url); err != nil {
				return err
			}
			response.Count++
		}
		response.AuditId, err = done(ctx, tx, caller, "notice.retry", "Notice/"+req.Id, map[string]any{"notices": response.Count})
		return err
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// givenUp are the notices that were given up: all, or the one of an id.
func givenUp(ctx context.Context, tx *store.Tx, id string) ([]store.Notice, error) {
	if id != "" {
		n, err := tx.Notice(ctx, id)
		if err == nil && n.GivenUpAt.IsZero() {
			err = fault.New(fault.Conflict, "notice %s is %s: only what is undelivered is tried once more", n.ID, noticeState(n)).
				WithRemedy("rotunda notices lists those that are")
		}
		return []store.Notice{n}, err
	}
	all, err := tx.Notices(ctx, false, mostNotices)
	var undelivered []store.Notice
	for _, n := range all {
		if !n.GivenUpAt.IsZero() {
			undelivered = append(undelivered, n)
		}
	}
	return undelivered, err
}

func noticeState(n store.Notice) string {
	switch {
	case !n.SentAt.IsZero():
		return "sent"
	case !n.GivenUpAt.IsZero():
		return "undelivered"
	}
	return "pending"
}

func wireNotices(notices []store.Notice) (all []*api.Notice) {
	for _, n := range notices {
		ended := n.SentAt
		if ended.IsZero() {
			ended = n.GivenUpAt
		}
		all = append(all, &api.Notice{
			Id: n.ID, Kind: string(n.Kind), ChangeId: n.ChangeID, ChangeName: n.ChangeName, Event: n.Event, Service: n.Service, Url: n.URL,
			State: noticeState(n), MadeAt: stamp(n.MadeAt), Tries: uint32(n.Tries), NextAt: stamp(n.NextAt), EndedAt: stamp(ended), LastError: n.LastError,
		})
	}
	return all
}
