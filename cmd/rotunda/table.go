package main

import (
	"io"
	"strings"
	"unicode/utf8"
)

// table is rows of cells under headings, aligned with two blanks between. On
// a terminal the last column is cut at the edge; elsewhere nothing is cut.
type table struct {
	headings []string
	rows     [][]cell
}

type cell struct {
	text  string
	style style
}

func newTable(headings ...string) *table { return &table{headings: headings} }

// row adds a row; each value is a string or a cell.
func (t *table) row(values ...any) {
	cells := make([]cell, len(t.headings))
	for i, value := range values {
		switch value := value.(type) {
		case cell:
			cells[i] = value
		case string:
			cells[i] = cell{text: value}
		}
		cells[i].text = oneLine(cells[i].text)
		if cells[i].text == "" && i < len(cells)-1 {
			cells[i] = cell{"-", faint}
		}
	}
	t.rows = append(t.rows, cells)
}

// write prints the table, or empty when it has no rows.
func (t *table) write(u *ui, empty string) {
	if len(t.rows) == 0 {
		u.note("%s", empty)
		return
	}
	_, _ = io.WriteString(u.out, strings.Join(t.lines(u), "\n")+"\n")
}

func (t *table) lines(u *ui) []string {
	widths := t.widths()
	headings := make([]cell, len(t.headings))
	for i, heading := range t.headings {
		headings[i] = cell{heading, strong}
	}
	lines := []string{t.line(u, headings, widths)}
	for _, cells := range t.rows {
		lines = append(lines, t.line(u, cells, widths))
	}
	return lines
}

func (t *table) widths() []int {
	widths := make([]int, len(t.headings))
	for i, heading := range t.headings {
		widths[i] = utf8.RuneCountInString(heading)
		for _, cells := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(cells[i].text))
		}
	}
	return widths
}

// line pads by what is seen, not by the bytes that colours add.
func (t *table) line(u *ui, cells []cell, widths []int) string {
	var b strings.Builder
	used := 0
	for i, c := range cells {
		if i == len(cells)-1 {
			b.WriteString(u.paint(c.style, cut(c.text, u.width, used)))
			break
		}
		b.WriteString(u.paint(c.style, c.text))
		pad := widths[i] - utf8.RuneCountInString(c.text) + 2
		b.WriteString(strings.Repeat(" ", pad))
		used += widths[i] + 2
	}
	return strings.TrimRight(b.String(), " ")
}

// cut shortens text to what is left of a terminal's width, but never to
// less than it takes to see that something is there.
func cut(text string, width, used int) string {
	left := max(width-used, 16)
	if width == 0 || utf8.RuneCountInString(text) <= left {
		return text
	}
	return string([]rune(text)[:left-1]) + "…"
}

func oneLine(text string) string {
	return strings.Join(strings.Fields(printable(text)), " ")
}
