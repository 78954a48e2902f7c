package control

import (
	"context"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/store"
)

// newestCommit is kept for a moment, so that thousands of silent streams that
// ask whether anything has happened ask the store once.
type newestCommit struct {
	mu   sync.Mutex
	at   time.Time
	read time.Time // when that was found out
}

// newestFor is how old the answer may get. Commits of this process wake whom
// they concern; this is how those of another server are noticed.
const newestFor = time.Second

// NewestCommit is the store's newest commit, as in a desired state's seq, a
// moment ago.
func (c *Control) NewestCommit(ctx context.Context) (uint64, error) {
	n := &c.newest
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := c.now(); now.Sub(n.read) >= newestFor || now.Before(n.read) {
		err := c.db.Read(ctx, func(tx *store.Tx) (err error) {
			n.at, err = tx.LastCommit(ctx)
			return err
		})
		if err != nil {
			return 0, err
		}
		n.read = now
	}
	return uint64(n.at.UnixMicro()), nil
}
