package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Options { return store.Options{Path: filepath.Join(t.TempDir(), "rotunda.db")} })
}

// TestFollower: who waits on Changed sees each commit, in order, by reading
// after it is woken.
func TestFollower(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	db := open(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const count = 300
	go func() {
		for i := range count {
			if err := verb(ctx, db, fmt.Sprint(i)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for seen := 0; seen < count; {
		_, next := db.Changed()
		seen = len(verbs(t, db))
		if seen == count {
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
			t.Fatalf("not woken; %d of %d seen", seen, count)
		}
	}
}
