package operator

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newFleet() *Fleet {
	return &Fleet{placements: map[string]Placement{}, took: map[rotation]time.Duration{}, changed: make(chan struct{})}
}

// A line as rotunda watch -o json prints it.
const line = `{"id":"p-1","service":"etcd","intent":"etcd-peers","agent":"a-1","instance":"main","target":"etcd/etcd",
"generation":7,"revision":9,"serial":"01a1","notAfter":"2026-11-21T12:00:00Z","state":"steady","level":"proven",
"provenSince":null,"renewAfter":null,"reason":"","failure":null,"took":"412.5ms","drift":false,"bundleDigest":"","rotations":7,
"restores":0,"reportedAt":null,"lastGeneration":7}`

func TestTakesWhatWatchPrints(t *testing.T) {
	f := newFleet()
	f.take([]byte(strings.ReplaceAll(line, "\n", "")))
	placements, _, err := f.Placements()
	if err != nil || len(placements) != 1 {
		t.Fatalf("%d placements, %v", len(placements), err)
	}
	p := placements[0]
	if !p.Steady() || p.Generation != 7 || p.Level != "proven" || p.NotAfter.Hour() != 12 {
		t.Errorf("it was read as %+v", p)
	}
	if took := f.Took(); len(took) != 1 || took[0] != 412500*time.Microsecond {
		t.Errorf("the rotation took %v", took)
	}
	f.take([]byte(`{"id":`))
	if _, _, err := f.Placements(); err == nil {
		t.Error("half a line was taken")
	}
}

func TestARotationCountsOnceAndOnlyWhenItStands(t *testing.T) {
	f := newFleet()
	steady := Placement{ID: "p", Generation: 2, State: "steady", Took: Duration(time.Second)}
	rotating, failed := steady, steady
	rotating.State, rotating.Generation = "rotating", 3
	failed.Failure = &Failure{Step: "prove"}
	f.Update([]Placement{steady})
	f.Update([]Placement{rotating})
	f.Update([]Placement{failed})
	f.Update([]Placement{steady})
	if took := f.Took(); len(took) != 1 {
		t.Errorf("one rotation is counted as %d", len(took))
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		missing := func(placements []Placement) string {
			if len(placements) < 2 {
				return "one is missing"
			}
			return ""
		}
		f.Update([]Placement{{ID: "a"}})
		if err := f.Await(t.Context(), time.Minute, missing); err == nil || !strings.Contains(err.Error(), "one is missing") {
			t.Errorf("in vain it ended with %v", err)
		}
		go func() {
			time.Sleep(time.Second)
			f.Update([]Placement{{ID: "b"}})
		}()
		start := time.Now()
		if err := f.Await(t.Context(), time.Minute, missing); err != nil || time.Since(start) != time.Second {
			t.Errorf("after %s it ended with %v", time.Since(start), err)
		}
		f.fail(errors.New("the server is gone"))
		if err := f.Await(t.Context(), time.Minute, func([]Placement) string { return "more" }); err == nil || err.Error() != "the server is gone" {
			t.Errorf("without a server it ended with %v", err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := newFleet().Await(gone, time.Minute, missing); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted it ended with %v", err)
		}
	})
}
