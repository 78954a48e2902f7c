package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"

	"github.com/rotunda-pki/rotunda/simulate"
)

//go:embed simulate_page.html
var simulatePage string

// The drawing's own units.
const (
	pageWidth  = 1000.0
	barHeight  = 26
	plotHeight = 220.0
)

// drawnStep is a step as a bar.
type drawnStep struct {
	simulate.Step
	X, Width float64
	Y        int
	Lasts    string
	LastIn   string
	Colour   int
}

// simulationPage draws a report as one page that needs nothing else.
func simulationPage(r *simulate.Report) ([]byte, error) {
	whole := max(r.Seconds, 1)
	var steps []drawnStep
	for i, step := range r.Steps {
		steps = append(steps, drawnStep{
			Step: step, X: step.Begins.Sub(r.Begins).Seconds() / whole * pageWidth, Width: max(step.Seconds/whole*pageWidth, 2),
			Y: i * barHeight, Lasts: rough(seconds(step.Seconds)), LastIn: rough(seconds(step.LastAt)), Colour: i * 47 % 360,
		})
	}
	top := 1
	for _, p := range r.Curve {
		top = max(top, p.Adopted, p.Old+p.New)
	}
	line := func(of func(simulate.Point) int) string {
		var points []string
		for _, p := range r.Curve {
			points = append(points, fmt.Sprintf("%.1f,%.1f", p.Seconds/whole*pageWidth, plotHeight-float64(of(p))/float64(top)*plotHeight))
		}
		return strings.Join(points, " ")
	}
	page, err := template.New("page").Funcs(template.FuncMap{"rough": func(s float64) string { return rough(seconds(s)) }}).Parse(simulatePage)
	if err != nil {
		return nil, fmt.Errorf("read the page's template: %w", err)
	}
	var ticks []string
	for i := range 5 {
		ticks = append(ticks, rough(seconds(whole*float64(i)/4)))
	}
	var out bytes.Buffer
	err = page.Execute(&out, map[string]any{
		"R": r, "Steps": steps, "Height": len(steps) * barHeight, "Top": top, "Ticks": ticks, "Lasts": rough(seconds(r.Seconds)),
		"Adopted": line(func(p simulate.Point) int { return p.Adopted }),
		"Old":     line(func(p simulate.Point) int { return p.Old }),
		"New":     line(func(p simulate.Point) int { return p.New }),
	})
	if err != nil {
		return nil, fmt.Errorf("draw the page: %w", err)
	}
	return out.Bytes(), nil
}
