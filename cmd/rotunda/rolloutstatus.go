package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

func newRolloutStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [NAME|ID]",
		Short: "Show how rollouts go, and what they wait for",
		Long: `Without a name it lists the rollouts that are open. With one it shows its waves,
what each waits for, how many placements were well before and are now, and when
it ends if what it assumes comes true. With --watch it does so live, until the
rollout is over or it is interrupted.`,
		Example: `  rotunda rollout status
  rotunda rollout status orders-db --watch
  rotunda rollout status orders-db -o json | jq -r '.rollout.reasons[].text'`,
		Args: cobra.MaximumNArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	watch := cmd.Flags().Bool("watch", false, "show it live")
	all := cmd.Flags().Bool("all", false, "without a name: those that are over, too")
	cmd.ValidArgsFunction = completeFirst(conn, rolloutNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case *watch && len(args) == 0:
			return usagef("say which rollout to --watch")
		case *all && len(args) > 0:
			return usagef("--all is for the list: leave out %q", args[0])
		case *watch && *output == formatYAML:
			return usagef("with --watch it prints a table, lines or json")
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			switch {
			case len(args) == 0:
				return listRollouts(ctx, s, u, *output, *all)
			case *watch:
				return watchRollout(ctx, s, u, *output, args[0])
			}
			d, err := invoke(ctx, s.DescribeRollout, &api.DescribeRolloutRequest{Rollout: args[0]})
			if err != nil {
				return err
			}
			return u.show(*output, d, func() { u.writeRollout(d) })
		})
	}
	return cmd
}

func listRollouts(ctx context.Context, s *server, u *ui, f format, all bool) error {
	list, err := invoke(ctx, s.ListRollouts, &api.ListRolloutsRequest{Ended: all})
	if err != nil {
		return err
	}
	return u.show(f, list, func() {
		t := newTable("NAME", "OVER", "STATE", "WAVE", "THERE", "BEGUN", "WHAT")
		for _, r := range list.Rollouts {
			wave := ""
			if r.Wave > 0 {
				wave = fmt.Sprintf("%d of %d", r.Wave, len(r.Waves))
			}
			there := ""
			if r.EndedAt == nil {
				there = fmt.Sprintf("%d of %d", thereOf(r), r.Placements)
			}
			t.row(r.Name, r.Selection, rolloutCell(r), wave, there, relative(u.now, r.BegunAt), rolloutWhat(u, r))
		}
		t.write(u, "No rollout is under way.")
	})
}

func rolloutWhat(u *ui, r *api.RolloutInfo) string {
	switch {
	case len(r.Reasons) > 0:
		return r.Reasons[0].Text
	case r.EndedAt != nil:
		return withWords("ended "+relative(u.now, r.EndedAt), r.DecidedReason)
	}
	return ""
}

func thereOf(r *api.RolloutInfo) (there int32) {
	for _, wave := range r.Waves {
		there += wave.There
	}
	return there
}

func rolloutCell(r *api.RolloutInfo) cell {
	s := busy
	switch r.State {
	case "done":
		s = good
	case "paused":
		s = warn
	case "aborted", "rolled back":
		s = bad
	}
	return cell{r.State, s}
}

func rolloutHeadline(u *ui, r *api.RolloutInfo) string {
	text := fmt.Sprintf("%s: %s", oneLine(r.Name), u.paint(rolloutCell(r).style, r.State))
	if r.Wave > 0 {
		text += fmt.Sprintf(", wave %d of %d", r.Wave, len(r.Waves))
	}
	text += fmt.Sprintf(", %d of %d there; healthy before: %d, after: %d", thereOf(r), r.Placements, r.WellBefore, r.WellNow)
	return text
}

func (u *ui) writeRollout(d *api.DescribeRolloutResponse) {
	_, _ = io.WriteString(u.out, strings.Join(rolloutLines(u, d), "\n")+"\n")
}

// rolloutLines shows a rollout whole.
func rolloutLines(u *ui, d *api.DescribeRolloutResponse) []string {
	r := d.Rollout
	begun := fmt.Sprintf("over %s, begun %s by %s", r.Selection, relative(u.now, r.BegunAt), r.BegunBy)
	if r.Reason != "" {
		begun += ": " + r.Reason
	}
	lines := []string{rolloutHeadline(u, r), oneLine(begun)}
	if r.DecidedBy != "" {
		lines = append(lines, oneLine(withWords(fmt.Sprintf("%s %s by %s", r.State, relative(u.now, r.DecidedAt), r.DecidedBy), r.DecidedReason)))
	}
	if r.EndedAt == nil {
		lines = append(lines, oneLine(estimateWords(u, r)))
	}
	if words := triedWords(r); words != "" {
		lines = append(lines, words)
	}
	if words := noticeWords(d.Notices); words != "" {
		lines = append(lines, words)
	}
	t := newTable("WAVE", "REGION", "UP TO", "COUNT", "THERE", "UNDER WAY", "FAILED", "PENDING", "SINCE")
	for i, wave := range r.Waves {
		t.row(strconv.Itoa(i+1), wave.Region, wave.Step, some(wave.Count), cell{some(wave.There), good}, cell{some(wave.Moving), busy},
			cell{some(wave.Failed), bad}, some(wave.Pending), waveSince(u, wave))
	}
	lines = append(append(lines, ""), t.lines(u)...)
	if len(r.Reasons) > 0 {
		lines = append(lines, "")
	}
	for _, reason := range r.Reasons {
		lines = append(lines, oneLine(reason.Text))
	}
	for _, a := range d.Answers {
		verdict := "refused"
		if a.Passed {
			verdict = "passed"
		}
		lines = append(lines, oneLine(withWords(fmt.Sprintf("gate %s %s wave %d %s", a.Gate, verdict, a.Wave, relative(u.now, a.At)), a.Words)))
	}
	return lines
}

// waveSince is since when a wave is where it should be.
func waveSince(u *ui, w *api.RolloutWave) string {
	switch {
	case w.Gone == w.Count:
		return "no intent wants it any more"
	case w.There+w.Gone == w.Count:
		return "there " + since(u.now, w.SettledAt)
	}
	return ""
}

func some(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

func estimateWords(u *ui, r *api.RolloutInfo) string {
	if r.EstimatedEnd == nil {
		return "nobody can say when it ends: " + strings.Join(r.Assumes, "; ")
	}
	return fmt.Sprintf("ends %s (%s), if %s", relative(u.now, r.EstimatedEnd), r.EstimatedEnd.AsTime().In(u.now.Location()).Format("Jan 2 15:04"), strings.Join(r.Assumes, "; "))
}

// watchRollout follows a rollout until it is over.
func watchRollout(ctx context.Context, s *server, u *ui, f format, name string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	view := newRolloutView(u, f)
	defer view.close()
	return follow(ctx, s, false, view.lost, func(ctx context.Context) (bool, error) {
		stream, err := s.WatchRollout(ctx, connect.NewRequest(&api.DescribeRolloutRequest{Rollout: name}))
		return drain(stream, err, func(d *api.DescribeRolloutResponse) {
			if view.show(d); d.Rollout.EndedAt != nil {
				stop()
			}
		})
	})
}

// rolloutView shows successive states of a rollout.
type rolloutView struct {
	screen *screen // nil: lines are printed
	ui     *ui
	json   bool
	seen   map[string]bool // lines that hold still
}

func newRolloutView(u *ui, f format) *rolloutView {
	v := &rolloutView{ui: u, json: f == formatJSON, seen: map[string]bool{}}
	if f == formatTable && u.width > 0 {
		v.screen = newScreen(u)
	}
	return v
}

func (v *rolloutView) show(d *api.DescribeRolloutResponse) {
	switch {
	case v.screen != nil:
		v.screen.put(scene{
			headline: func(u *ui) string { return rolloutHeadline(u, d.Rollout) },
			rows:     func(u *ui) []string { return rolloutLines(u, d)[1:] },
			narrower: "rotunda rollout status shows them all",
			leave:    func(u *ui) { u.writeRollout(d) },
		}, v.ui.hosts)
	case v.json:
		_, _ = v.ui.out.Write(append(encodeLine(d), '\n'))
	default:
		v.lines(d)
	}
}

// lines prints what is new: the state, and each reason once while it holds.
func (v *rolloutView) lines(d *api.DescribeRolloutResponse) {
	texts := []string{rolloutHeadline(v.ui, d.Rollout)}
	for _, reason := range d.Rollout.Reasons {
		texts = append(texts, reason.Text)
	}
	now := map[string]bool{}
	for _, text := range texts {
		if now[text] = true; !v.seen[text] {
			v.ui.say("%s %s", time.Now().Format("15:04:05"), oneLine(text))
		}
	}
	v.seen = now
}

func (v *rolloutView) lost(err error) {
	if v.screen != nil {
		v.screen.lost(err)
		return
	}
	v.ui.note("rotunda: %s; connecting again", lostReason(err))
}

func (v *rolloutView) close() {
	if v.screen != nil {
		v.screen.close()
	}
}

// withWords adds the words that somebody gave for what is said, if he gave any.
func withWords(said, words string) string {
	if strings.TrimSpace(words) == "" {
		return said
	}
	return said + ": " + words
}
