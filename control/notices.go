package control

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// notice is what the owners of some services are to be told.
type notice struct {
	kind     store.NoticeKind
	changeID string
	name     string
	reason   string // of whoever began the change, or decided this about it
	by       string
	event    rollout.Event
	services []fleet.Name
	what     string
	begins   time.Time // of an announcement; zero: nobody can say
	show     string    // the command that shows the change
}

// noticeBody is what is posted. Fields are added to it and never renamed.
type noticeBody struct {
	ID          string       `json:"id"` // the same in each repetition
	Event       string       `json:"event"`
	At          time.Time    `json:"at"`
	TrustDomain string       `json:"trustDomain"`
	Change      noticeChange `json:"change"`
	Service     fleet.Name   `json:"service"`
	Owner       noticeOwner  `json:"owner"`
	What        string       `json:"what"`
	Begins      *time.Time   `json:"begins,omitempty"` // not before
	Show        string       `json:"show"`
}

type noticeChange struct {
	Kind   string `json:"kind"`
	ID     string `json:"id"`
	Name   string `json:"name"`
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
}

type noticeOwner struct {
	Team    string `json:"team"`
	Contact string `json:"contact"`
	Runbook string `json:"runbook,omitempty"`
}

// tell writes a notice to the owner of each service who can be told, in the
// transaction of what it tells of. It returns how many there are.
func (c *Control) tell(ctx context.Context, tx *store.Tx, w *world, n notice) (told int, err error) {
	for _, name := range n.services {
		url := c.notifyURLOf(w, name)
		if url == "" {
			continue
		}
		service, _ := w.set.Service(name)
		body := noticeBody{
			ID: newID(), Event: string(n.event), At: tx.Now, TrustDomain: c.domain.Name(), Service: name, What: n.what, Show: n.show,
			Change: noticeChange{Kind: string(n.kind), ID: n.changeID, Name: n.name, By: n.by, Reason: n.reason},
			Owner:  noticeOwner{Team: service.Owner.Team, Contact: service.Owner.Contact, Runbook: service.Owner.Runbook},
		}
		if !n.begins.IsZero() {
			body.Begins = &n.begins
		}
		text, err := json.Marshal(body)
		if err != nil {
			return told, err
		}
		err = tx.InsertNotice(ctx, store.Notice{
			ID: body.ID, Kind: n.kind, ChangeID: n.changeID, ChangeName: n.name, Event: body.Event, Service: string(name), URL: url, Body: text,
		})
		if err != nil {
			return told, err
		}
		told++
	}
	return told, nil
}

// notifyURLOf is where notices about a service go; empty: nowhere.
func (c *Control) notifyURLOf(w *world, name fleet.Name) string {
	service, declared := w.set.Service(name)
	if !declared {
		return ""
	}
	return cmp.Or(service.Owner.Notify, c.notifyURL)
}

// checkReachable refuses to wait for owners who can't be told.
func (c *Control) checkReachable(w *world, services []fleet.Name) error {
	for _, name := range services {
		if c.notifyURLOf(w, name) == "" {
			return fault.New(fault.Invalid, "the owner of service %s can't be told: it has no spec.owner.notify, and the server no notices.url", name).
				WithRemedy("write one of the two, or begin without a notice")
		}
	}
	return nil
}

// servicesOf are the services of intents, each once, in order.
func (w *world) servicesOf(intents []string) (services []fleet.Name) {
	for _, name := range intents {
		if in, declared := w.set.Intent(fleet.Name(name)); declared {
			services = append(services, in.Service)
		}
	}
	slices.Sort(services)
	return slices.Compact(services)
}

// Post is a notice that is to be posted.
type Post struct {
	ID      string
	Event   string
	Service string
	URL     string
	Body    []byte
	Tries   int // this one counts
}

// mostPosts bounds how many notices are posted at once.
const mostPosts = 32

// TakeNotices returns the notices that are to be posted now. Each is this
// server's for a while; what it has not said of one by then, another posts
// again. So none is lost to a crash, and one may be posted twice.
func (c *Control) TakeNotices(ctx context.Context, within time.Duration) (posts []Post, err error) {
	if still, err := c.standsStill(ctx); err != nil || still {
		return nil, err
	}
	var due []store.Notice
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		due, err = tx.DueNotices(ctx, mostPosts)
		return err
	})
	if err != nil || len(due) == 0 {
		return nil, err
	}
	err = c.change(ctx, func(tx *store.Tx) error {
		posts = nil
		for _, n := range due {
			err := tx.TryNotice(ctx, n.ID, n.Tries, tx.Now.Add(within))
			if fault.CodeOf(err) == fault.Conflict {
				continue // another server has it
			}
			if err != nil {
				return err
			}
			posts = append(posts, Post{n.ID, n.Event, n.Service, n.URL, n.Body, n.Tries + 1})
		}
		return nil
	})
	return posts, err
}

// NoticeSent records that a notice was taken.
func (c *Control) NoticeSent(ctx context.Context, post Post) error {
	return c.endNotice(ctx, post, "notice.sent", map[string]any{}, func(tx *store.Tx) error { return tx.SentNotice(ctx, post.ID) })
}

// NoticeFailed records why a try came to nothing, and after which time the next
// one is due.
func (c *Control) NoticeFailed(ctx context.Context, post Post, why string, again time.Duration) error {
	err := c.change(ctx, func(tx *store.Tx) error {
		return tx.FailNotice(ctx, post.ID, post.Tries, short(why), tx.Now.Add(again))
	})
	return unlessMoved(err)
}

// NoticeGivenUp records that a notice is tried no more.
func (c *Control) NoticeGivenUp(ctx context.Context, post Post, why string) error {
	detail := map[string]any{"tries": post.Tries, "error": short(why)}
	return c.endNotice(ctx, post, "notice.undelivered", detail, func(tx *store.Tx) error {
		return tx.FailNotice(ctx, post.ID, post.Tries, short(why), time.Time{})
	})
}

func (c *Control) endNotice(ctx context.Context, post Post, verb string, detail map[string]any, end func(*store.Tx) error) error {
	detail["event"], detail["service"] = post.Event, post.Service
	err := c.change(ctx, func(tx *store.Tx) error {
		if err := end(tx); err != nil {
			return err
		}
		_, err := done(ctx, tx, Caller{Kind: Server}, verb, "Notice/"+post.ID, detail)
		return err
	})
	if err := unlessMoved(err); err != nil {
		return err
	}
	c.watchers.wakeAgents() // who waits for owners may go on
	return nil
}

// unlessMoved is nil where somebody else has recorded an end meanwhile.
func unlessMoved(err error) error {
	if fault.CodeOf(err) == fault.Conflict {
		return nil
	}
	return err
}
