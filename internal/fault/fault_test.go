package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

func TestErrorSaysThingCauseAndRemedy(t *testing.T) {
	err := Wrap(NotFound, io.EOF, "read bundle %q", "default").WithRemedy("run %s", "rotunda init")
	if got, want := err.Error(), `read bundle "default": EOF (run rotunda init)`; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the cause is lost")
	}
}

func TestCodeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Code
	}{
		{New(Conflict, "x"), Conflict},
		{fmt.Errorf("apply: %w", New(Forbidden, "x")), Forbidden},
		{io.EOF, Internal},
	} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("CodeOf(%v) = %s, want %s", c.err, got, c.want)
		}
	}
}

func TestAfter(t *testing.T) {
	busy := New(Unavailable, "busy").WithAfter(time.Minute)
	for err, want := range map[error]time.Duration{
		busy: time.Minute, Wrap(Unavailable, fmt.Errorf("x: %w", busy), "issue"): time.Minute, New(Unavailable, "x"): 0, io.EOF: 0,
	} {
		if got := AfterOf(err); got != want {
			t.Errorf("AfterOf(%v) = %s, want %s", err, got, want)
		}
	}
}
