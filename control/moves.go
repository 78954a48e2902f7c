package control

import (
	"context"
	"sync/atomic"

	"github.com/rotunda-pki/rotunda/store"
)

// moves is what is known of the store's newest move: the newest commit that may
// change what is desired of any agent, on whichever server it was made. Commits
// wake whom they concern; this is for whom nobody came to tell, since a server
// was killed or cut off, and for what can wait until somebody looks.
type moves struct{ newest atomic.Pointer[move] }

type move struct {
	at   uint64        // µs, as in a desired state's seq
	next chan struct{} // closed when a newer one is known
}

// Moved is the newest move that is known, in µs as in a desired state's seq, and
// a channel that is closed once a newer one is.
func (c *Control) Moved() (at uint64, next <-chan struct{}) {
	newest := c.moves.newest.Load()
	return newest.at, newest.next
}

// LookForMoves asks the store for its newest move.
func (c *Control) LookForMoves(ctx context.Context) error {
	return c.db.Read(ctx, func(tx *store.Tx) error {
		at, err := tx.LastMove(ctx)
		if err != nil {
			return err
		}
		before := c.moves.newest.Load()
		if found := uint64(at.UnixMicro()); found != before.at && c.moves.newest.CompareAndSwap(before, &move{found, make(chan struct{})}) {
			close(before.next)
		}
		return nil
	})
}
