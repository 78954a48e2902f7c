package calmlog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines is what a log has after work.
func lines(work func(*slog.Logger)) []string {
	var out bytes.Buffer
	work(slog.New(Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))))
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log has\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What is said again within a minute is told after it, with its number.
func TestRepetitionsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		same(t, lines(func(log *slog.Logger) {
			down := errors.New("the database is away")
			for range 130 {
				log.Error("sequence the audit log", "error", down)
				time.Sleep(time.Second)
			}
		}),
			`level=ERROR msg="sequence the audit log" error="the database is away"`,
			`level=ERROR msg="sequence the audit log" error="the database is away" repeated=59`,
			`level=ERROR msg="sequence the audit log" error="the database is away" repeated=59`,
		)
	})
}

// Lines that differ in anything are told, and so is all that is no warning.
func TestOthersAreNotHeldBack(t *testing.T) {
	same(t, lines(func(log *slog.Logger) {
		log.Warn("refused", "caller", "a")
		log.Warn("refused", "caller", "b")
		log.Warn("refused", "caller", "a")
		log.Error("refused", "caller", "a")
		log.With("part", "agent").Warn("refused", "caller", "a")
		log.WithGroup("g").Warn("refused", "caller", "a")
		log.With("part", "agent").Warn("refused", "caller", "a")
		log.Info("ready")
		log.Info("ready")
		log.Debug("nobody asked")
	}),
		"level=WARN msg=refused caller=a", "level=WARN msg=refused caller=b", "level=ERROR msg=refused caller=a",
		"level=WARN msg=refused part=agent caller=a", "level=WARN msg=refused g.caller=a",
		"level=INFO msg=ready", "level=INFO msg=ready",
	)
}

// A clock that goes back holds nothing back, and what is kept is bounded.
func TestBounds(t *testing.T) {
	told := &told{at: map[uint64]*line{}}
	now := time.Now()
	for key := range uint64(5 * mostKept) {
		if _, tell := told.tell(key, now); !tell {
			t.Fatalf("line %d was never told", key)
		}
	}
	if len(told.at) > mostKept {
		t.Errorf("%d lines are kept", len(told.at))
	}
	if _, tell := told.tell(5*mostKept-1, now.Add(-time.Hour)); !tell {
		t.Error("held back for a line of the future")
	}
}

func TestManyAtOnce(t *testing.T) {
	got := lines(func(log *slog.Logger) {
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				for range 100 {
					log.Error("down", "who", fmt.Sprint(i%2))
				}
			})
		}
		group.Wait()
	})
	if len(got) != 2 {
		t.Errorf("%d lines: %s", len(got), got)
	}
}
