package load

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// remembered is how many failures are kept in words.
const remembered = 10

// Counts is what the clients have seen so far. It may be read at any time.
type Counts struct {
	requests, failed, opened, reconnects, retries atomic.Int64

	mu       sync.Mutex
	failures []string
}

// Tally is the counts at one moment.
type Tally struct {
	Requests   int64 // done, whether well or not
	Failed     int64 // those that failed
	Opened     int64 // connections opened, all told
	Reconnects int64 // times that a kept connection was lost and opened anew
	Retries    int64 // requests to a member that restarted, which another one answered
}

// Tally reads the counts.
func (c *Counts) Tally() Tally {
	return Tally{c.requests.Load(), c.failed.Load(), c.opened.Load(), c.reconnects.Load(), c.retries.Load()}
}

// Failures says in words what the first failures were.
func (c *Counts) Failures() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.failures...)
}

func (c *Counts) note(what string, err error) {
	c.requests.Add(1)
	if err == nil {
		return
	}
	c.failed.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failures) < remembered {
		c.failures = append(c.failures, fmt.Sprintf("%s %s: %v", time.Now().Format("15:04:05.000"), what, err))
	}
}
