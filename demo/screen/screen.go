// Package screen shows how the demo goes: on a terminal as a live table under
// the lines that were said, elsewhere as the lines alone.
package screen

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Table is what a live screen shows at one moment: rows under headings, and
// lines below them.
type Table struct {
	Headings []string
	Rows     [][]Cell
	Below    string
}

// Cell is one field of a table.
type Cell struct {
	Text   string
	Colour Colour
}

// Colour is a colour by its meaning.
type Colour string

// The colours.
const (
	Plain Colour = ""
	Good  Colour = "32"
	Busy  Colour = "36"
	Bad   Colour = "31"
	Faint Colour = "2"
	Title Colour = "1"
)

// redraw is how often a live table is drawn anew.
const redraw = 100 * time.Millisecond

// Screen is where the demo speaks. All its methods may be called at once.
type Screen struct {
	out    io.Writer
	fd     int
	live   bool
	colour bool
	start  time.Time

	mu    sync.Mutex
	table func() Table // nil: none
	lines int          // of the table that stand on the terminal now

	stop, stopped chan struct{}
	closing       sync.Once
}

// New makes a screen on out. Only a terminal gets a live table.
func New(out *os.File) *Screen {
	s := &Screen{out: out, fd: int(out.Fd()), start: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{})}
	s.live = term.IsTerminal(s.fd) && os.Getenv("TERM") != "dumb"
	s.colour = s.live && os.Getenv("NO_COLOR") == ""
	go s.run()
	return s
}

// Live says whether the screen shows a table.
func (s *Screen) Live() bool { return s.live }

// Show has table called, again and again, for what the live table shows.
func (s *Screen) Show(table func() Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table = table
}

// Step begins a step of the demo.
func (s *Screen) Step(title string) {
	s.print(fmt.Sprintf("%s %s", s.clock(), s.paint(Title, title)))
}

// Say tells something about the step.
func (s *Screen) Say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		s.print("        " + strings.TrimRight(line, "\n"))
	}
}

// Close draws the table for the last time, and leaves it there.
func (s *Screen) Close() {
	s.closing.Do(func() {
		close(s.stop)
		<-s.stopped
	})
}

func (s *Screen) clock() string {
	return s.paint(Faint, fmt.Sprintf("[%5.1fs]", time.Since(s.start).Seconds()))
}

func (s *Screen) run() {
	defer close(s.stopped)
	if !s.live {
		<-s.stop
		return
	}
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.print("")
		case <-s.stop:
			s.print("")
			return
		}
	}
}

// print takes the table away, prints a line, and draws the table again. It
// writes all at once, so that nothing flickers.
func (s *Screen) print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	if s.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", s.lines)
		s.lines = 0
	}
	if line != "" {
		b.WriteString(line + "\n")
	}
	if s.live && s.table != nil {
		drawn := s.draw(s.table())
		s.lines = len(drawn)
		b.WriteString(strings.Join(drawn, "\n") + "\n")
	}
	_, _ = io.WriteString(s.out, b.String())
}

// draw lays the table out in the width and height that there are.
func (s *Screen) draw(t Table) []string {
	width, height, err := term.GetSize(s.fd)
	if err != nil {
		width, height = 80, 24
	}
	widths := make([]int, len(t.Headings))
	header := make([]Cell, len(t.Headings))
	for i, heading := range t.Headings {
		header[i], widths[i] = Cell{heading, Faint}, len([]rune(heading))
		for _, row := range t.Rows {
			widths[i] = max(widths[i], len([]rune(row[i].Text)))
		}
	}
	lines := []string{"", s.row(header, widths, width)}
	for _, row := range t.Rows {
		lines = append(lines, s.row(row, widths, width))
	}
	lines = append(lines, "")
	for line := range strings.Lines(t.Below) {
		lines = append(lines, clip(strings.TrimRight(line, "\n"), width-1))
	}
	return lines[:min(len(lines), max(1, height-1))]
}

func (s *Screen) row(cells []Cell, widths []int, width int) string {
	var b strings.Builder
	left := width - 1
	for i, cell := range cells {
		text := clip(cell.Text, left)
		left -= len([]rune(text))
		b.WriteString(s.paint(cell.Colour, text))
		if i < len(cells)-1 {
			gap := max(0, min(left, widths[i]-len([]rune(text))+2))
			left -= gap
			b.WriteString(strings.Repeat(" ", gap))
		}
	}
	return b.String()
}

func (s *Screen) paint(c Colour, text string) string {
	if !s.colour || c == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

func clip(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	if width < 1 {
		return ""
	}
	return string(runes[:width-1]) + "…"
}
