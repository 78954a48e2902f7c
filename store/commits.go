package store

import (
	"sync/atomic"
	"time"
)

// Commits counts what was made durable since the store was opened. While a disk
// is slow, commits take longer and each is for more calls.
type Commits struct {
	Made  uint64
	Calls uint64        // that wrote, in all of them
	Took  time.Duration // to make them durable, in all
}

// commits counts them.
type commits struct{ made, calls, took atomic.Int64 }

func (c *commits) add(calls int, took time.Duration) {
	c.made.Add(1)
	c.calls.Add(int64(calls))
	c.took.Add(int64(took))
}

// Commits returns the count.
func (db *DB) Commits() Commits {
	return Commits{uint64(db.commits.made.Load()), uint64(db.commits.calls.Load()), time.Duration(db.commits.took.Load())}
}
