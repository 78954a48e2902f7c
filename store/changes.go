package store

import (
	"sync"
	"time"
)

// changes tells followers that something was committed.
type changes struct {
	mu      sync.Mutex
	version uint64
	last    time.Time // the newest commit that was told of
	next    chan struct{}
}

// Changed returns how many commits this DB has made or heard of, and a channel
// that is closed at the next one. A follower takes both, reads the store, and
// waits on the channel: a commit in between is never missed, and many are one
// wake-up.
func (db *DB) Changed() (version uint64, next <-chan struct{}) {
	db.changes.mu.Lock()
	defer db.changes.mu.Unlock()
	return db.changes.version, db.changes.next
}

// begin takes what was committed before anybody could wait for it.
func (c *changes) begin(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = at
}

// committed tells of a commit, once. It returns whether that was news.
func (c *changes) committed(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !at.After(c.last) {
		return false
	}
	c.last = at
	c.version++
	close(c.next)
	c.next = make(chan struct{})
	return true
}
