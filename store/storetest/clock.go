package storetest

import (
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

func (b *bench) writeNow() time.Time {
	b.t.Helper()
	var now time.Time
	b.write(func(tx *store.Tx) error {
		now = tx.Now
		return put(b.ctx, tx, "document")
	})
	return now
}

// testClockGrows: no two commits have one time, though the clock stands still
// or steps back a little; and reads show the newest.
func testClockGrows(t *testing.T, b *bench) {
	last := b.writeNow()
	if !last.Equal(start.Truncate(time.Microsecond)) || last.Location() != time.UTC {
		t.Fatalf("now is %v, the clock shows %v", last, start)
	}
	for _, step := range []time.Duration{0, 0, -time.Second, -3 * time.Second, time.Millisecond, time.Hour} {
		b.pass(step)
		now := b.writeNow()
		if !now.After(last) {
			t.Fatalf("after a step of %v: %v is not after %v", step, now, last)
		}
		last = now
		committed := find(b, func(tx *store.Tx) (time.Time, error) { return tx.LastCommit(b.ctx) })
		if !committed.Equal(now) {
			t.Fatalf("last commit %v, it was at %v", committed, now)
		}
	}
	if want := start.Add(time.Hour - 4*time.Second + time.Millisecond).Truncate(time.Microsecond); !last.Equal(want) {
		t.Fatalf("now is %v, the clock shows %v", last, want)
	}
}

func testClockWentBack(t *testing.T, b *bench) {
	b.writeNow()
	b.pass(-6 * time.Second)
	err := b.Write(b.ctx, func(tx *store.Tx) error { return put(b.ctx, tx, "early") })
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "clock") {
		t.Fatalf("six seconds before the last commit: %v", err)
	}
	b.read(func(tx *store.Tx) error { return nil })
	b.pass(2 * time.Second)
	b.writeNow()
	same(b, b.names(), map[string]bool{"document": true})
}

func testClockAfterReopening(_ *testing.T, b *bench) {
	b.writeNow()
	b.pass(-time.Hour)
	b.reopen(false)
	b.refuse(fault.Unavailable, func(tx *store.Tx) error { return put(b.ctx, tx, "early") })
	b.pass(time.Hour)
	b.writeNow()
}
