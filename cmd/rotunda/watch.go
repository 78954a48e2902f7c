package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

func newWatchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show placements as they change",
		Long: `On a terminal it keeps a live table on the screen. Elsewhere it prints a line
for each change, or with -o json a JSON object a line. It connects again when
the server goes away, until it is interrupted.`,
		Example: `  rotunda watch --service orders
  rotunda watch -o json | jq -r 'select(.state == "failed") | .reason'`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	filter := placementFlags(cmd, conn)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output == formatYAML {
			return usagef("watch prints a table, lines or json")
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			u.findHost(ctx, s, filter)
			view := newView(u, *output)
			defer view.close()
			return follow(ctx, s, false, view.lost, func(ctx context.Context) (bool, error) {
				stream, err := s.WatchPlacements(ctx, connect.NewRequest(filter))
				return drain(stream, err, func(list *api.ListPlacementsResponse) {
					view.show(list.Placements, hostsOf(list.Placements))
				})
			})
		})
	}
	return cmd
}

// view shows successive states of the placements.
type view interface {
	show(placements []*api.PlacementStatus, known hosts)
	lost(err error) // the stream ended and will be opened again
	close()
}

func newView(u *ui, f format) view {
	if f == formatTable && u.width > 0 {
		return newScreen(u)
	}
	return &lines{ui: u, json: f == formatJSON, seen: map[string]string{}}
}

// drain hands over messages until the stream ends. It says whether any came.
func drain[M any](stream *connect.ServerStreamForClient[M], err error, take func(*M)) (any bool, _ error) {
	if err != nil {
		return false, err
	}
	for stream.Receive() {
		take(stream.Msg())
		any = true
	}
	return any, errors.Join(stream.Err(), stream.Close())
}

// follow runs a stream and opens it again when it breaks, with full jitter
// between 0.2 and 10 seconds, until ctx ends. What will not mend by trying
// again ends it at once, and so does a server that was never reached (opened
// says that it was). Credentials that are refused once they were good are taken
// anew, once.
func follow(ctx context.Context, s *server, opened bool, lost func(error), once func(context.Context) (bool, error)) error {
	const first, last = 200 * time.Millisecond, 10 * time.Second
	pause, good := first, opened
	for {
		any, err := once(ctx)
		if ctx.Err() != nil {
			return nil // interrupted: that is how watching ends
		}
		if good = good || any; good && connect.CodeOf(err) == connect.CodePermissionDenied && s.again() == nil {
			good = false
			continue
		}
		if opened = opened || any; err != nil && (!opened || !mends(err)) {
			return err
		}
		if any {
			pause = first
		}
		lost(err)
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(pause))) + first/2):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, last)
	}
}

func mends(err error) bool {
	if err == nil || errors.Is(err, io.EOF) {
		return true // the server ended the stream in good order, to restart
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeCanceled, connect.CodeAborted, connect.CodeInternal,
		connect.CodeUnknown, connect.CodeDeadlineExceeded, connect.CodeResourceExhausted:
		return true
	}
	return false
}

// lines prints one line for each placement that is new or changed, for logs
// and pipes.
type lines struct {
	*ui
	json bool
	seen map[string]string // placement id → what was printed last
}

func (v *lines) show(placements []*api.PlacementStatus, known hosts) {
	v.hosts = known
	present := map[string]bool{}
	for _, p := range placements {
		present[p.Id] = true
		text := v.text(p)
		if v.json {
			text = string(encodeLine(p))
		}
		if v.seen[p.Id] == text {
			continue
		}
		v.seen[p.Id] = text
		if v.json {
			_, _ = v.out.Write(append([]byte(text), '\n'))
			continue
		}
		v.say("%s %s", time.Now().Format("15:04:05"), text)
	}
	for id := range v.seen {
		if !present[id] {
			delete(v.seen, id)
		}
	}
}

func (v *lines) text(p *api.PlacementStatus) string {
	text := fmt.Sprintf("%s %s %s: generation %d, %s, %s", p.Intent, v.hosts.name(p.Agent), p.Instance,
		p.Generation, levelCell(v.ui, p).text, stateCell(p).text)
	if r := reason(p); r != "" {
		text += ": " + r
	}
	return oneLine(text)
}

func (v *lines) lost(err error) { v.note("rotunda: %s; connecting again", lostReason(err)) }
func (v *lines) close()         {}

func lostReason(err error) string {
	if err == nil {
		return "the server closed the stream"
	}
	what, _ := explain(err)
	return strings.TrimSpace(what)
}
