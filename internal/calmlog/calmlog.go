// Package calmlog keeps a log readable while something is down: what many loops
// say of it again and again is told once a minute, with how often it was said.
package calmlog

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"
)

const (
	// every is how often the same is told.
	every = time.Minute

	// mostKept bounds how many different lines are known as told.
	mostKept = 1024
)

// Handler passes on what next is to log, but holds back a warning or an error that
// it passed on less than a minute ago, word for word and with the same values. The
// next one that is passed on has the number of those held back, as repeated. What
// is no warning is not held back.
func Handler(next slog.Handler) slog.Handler {
	return &handler{next: next, seed: maphash.MakeSeed(), told: &told{at: map[uint64]*line{}}}
}

type handler struct {
	next slog.Handler
	seed maphash.Seed
	with uint64 // hash of what WithAttrs and WithGroup have added
	told *told
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.next.Handle(ctx, r)
	}
	held, tell := h.told.tell(h.key(r), r.Time)
	if !tell {
		return nil
	}
	if held > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("repeated", held))
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.child(h.next.WithAttrs(attrs), fmt.Sprint(attrs))
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return h.child(h.next.WithGroup(name), name)
}

func (h *handler) child(next slog.Handler, added string) *handler {
	return &handler{next, h.seed, h.hash(h.with, added), h.told}
}

func (h *handler) key(r slog.Record) uint64 {
	key := h.hash(h.with, r.Level.String(), r.Message)
	r.Attrs(func(a slog.Attr) bool {
		key = h.hash(key, a.Key, a.Value.String())
		return true
	})
	return key
}

// hash is of what was hashed before and of texts, each by itself.
func (h *handler) hash(before uint64, texts ...string) uint64 {
	for _, text := range texts {
		before = maphash.Comparable(h.seed, struct {
			before uint64
			text   string
		}{before, text})
	}
	return before
}

// told is what was passed on, and when.
type told struct {
	mu sync.Mutex
	at map[uint64]*line
}

type line struct {
	last time.Time
	held int
}

// tell says whether a line is passed on now, and how many like it were held back.
func (t *told) tell(key uint64, now time.Time) (held int, tell bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.at[key]
	if one != nil {
		if now.Sub(one.last).Abs() < every { // what is said at once comes in any order
			one.held++
			return 0, false
		}
		held = one.held
	}
	if one == nil && len(t.at) >= mostKept {
		t.forget(now)
	}
	t.at[key] = &line{last: now}
	return held, true
}

// forget makes room: what was told long ago goes, or, where all of it is new, the
// whole.
func (t *told) forget(now time.Time) {
	for key, one := range t.at {
		if now.Sub(one.last) >= every {
			delete(t.at, key)
		}
	}
	if len(t.at) >= mostKept {
		clear(t.at)
	}
}
