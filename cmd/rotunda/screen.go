package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/rotunda-pki/rotunda/api"
)

// scene is what a screen shows: a headline, and rows that are laid out anew
// each time.
type scene struct {
	headline func(*ui) string
	rows     func(*ui) []string
	narrower string    // how to have fewer rows
	leave    func(*ui) // prints what stays below the prompt
}

// screen keeps a scene on a terminal's alternate screen. It draws when
// something changed, each second for the relative times, and when the
// terminal's size changes.
type screen struct {
	ui         *ui
	mu         sync.Mutex
	shown      scene
	trouble    string
	heard      bool
	stop, done chan struct{}
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // alternate screen, no cursor, no wrapping
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

func newScreen(u *ui) *screen {
	u.loud = false // nothing else may write while the table stands
	v := &screen{ui: u, stop: make(chan struct{}), done: make(chan struct{})}
	fmt.Fprint(u.out, enterScreen)
	go v.run()
	return v
}

func (v *screen) run() {
	defer close(v.done)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		v.draw()
		select {
		case <-tick.C:
		case <-resized:
		case <-v.stop:
			return
		}
	}
}

func (v *screen) show(placements []*api.PlacementStatus, known hosts) {
	v.put(placementScene(placements), known)
}

func placementScene(placements []*api.PlacementStatus) scene {
	return scene{
		headline: func(*ui) string { return summary(placements) },
		rows:     func(u *ui) []string { return statusTable(u, placements).lines(u) },
		narrower: "narrow it with --service, --intent or --agent",
		leave:    func(u *ui) { statusTable(u, placements).write(u, "There are no placements.") },
	}
}

func (v *screen) put(p scene, known hosts) {
	v.mu.Lock()
	v.ui.hosts = known
	v.shown, v.trouble, v.heard = p, "", true
	v.mu.Unlock()
	v.draw()
}

func (v *screen) lost(err error) {
	v.mu.Lock()
	v.trouble = lostReason(err) + "; connecting again"
	v.mu.Unlock()
	v.draw()
}

// close gives the terminal back and leaves the last state below the prompt.
func (v *screen) close() {
	close(v.stop)
	<-v.done
	v.mu.Lock()
	defer v.mu.Unlock()
	fmt.Fprint(v.ui.out, leaveScreen)
	if v.heard {
		v.shown.leave(v.ui)
	}
}

func (v *screen) draw() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if fd, ok := terminal(v.ui.out); ok {
		if width, height, err := term.GetSize(fd); err == nil {
			v.ui.width, v.ui.height = width, height
		}
	}
	v.ui.now = time.Now()
	var b strings.Builder
	b.WriteString(home)
	for _, line := range v.frame() {
		b.WriteString(line + clearLine + "\r\n")
	}
	b.WriteString(clearBelow)
	fmt.Fprint(v.ui.out, b.String())
}

// frame is what fits: a headline, the table, and how many rows do not fit.
func (v *screen) frame() []string {
	headline := "waiting for the server"
	if v.heard {
		headline = v.shown.headline(v.ui)
	}
	headline += "   " + v.ui.now.Format("15:04:05") + "   Ctrl-C ends"
	if v.trouble != "" {
		headline = v.ui.paint(bad, cut(oneLine(v.trouble), v.ui.width, 0))
	}
	frame := []string{headline, ""}
	if !v.heard {
		return frame
	}
	rows := v.shown.rows(v.ui)
	if room := v.ui.height - len(frame) - 2; room > 1 && len(rows) > room {
		more := fmt.Sprintf("… and %d more; %s", len(rows)-room, v.shown.narrower)
		rows = append(rows[:room], v.ui.paint(faint, more))
	}
	return append(frame, rows...)
}
