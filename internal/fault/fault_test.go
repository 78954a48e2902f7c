package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
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
