package main

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// relative says when t is, seen from now: "in 3h", "2d ago"; empty when t
// is not set. Tables show times like this; JSON and YAML carry RFC 3339.
func relative(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	left := rounded(t.AsTime().Sub(now))
	switch {
	case left >= time.Second:
		return "in " + rough(left)
	case left <= -time.Second:
		return rough(-left) + " ago"
	}
	return "now"
}

// rounded keeps "in 24h" from reading "in 23h" a moment later.
func rounded(d time.Duration) time.Duration {
	if d.Abs() < 2*time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(time.Minute)
}

// since says from when on something holds: "since 14:02", with the day when
// that was not today. It uses the operator's own zone.
func since(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	at, today := t.AsTime().In(now.Location()), now
	switch {
	case at.Year() != today.Year():
		return "since " + at.Format("2006-01-02")
	case at.YearDay() != today.YearDay():
		return "since " + at.Format("Jan 2 15:04")
	}
	return "since " + at.Format("15:04")
}

// exact is RFC 3339 with what it means from now, for descriptions.
func exact(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339) + " (" + relative(now, t) + ")"
}

// rough is a duration in its largest unit, with the next one while that
// still matters: "45s", "12m", "1h30m", "36h", "12d".
func rough(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 10*time.Hour && d%time.Hour >= time.Minute:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	case d < 72*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// short is a measured duration as people read it: "214ms", "1.3s".
func short(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	took := d.AsDuration()
	switch {
	case took < time.Second:
		return took.Round(time.Millisecond).String()
	case took < time.Minute:
		return took.Round(100 * time.Millisecond).String()
	}
	return took.Round(time.Second).String()
}
