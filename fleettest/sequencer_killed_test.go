package fleettest

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/server"
	"github.com/rotunda-pki/rotunda/store"
)

// sequencerOf names, in the environment of a copy of this program, the state
// whose audit log it is to grow, by two sequencers at once; aheadBy is how many
// seconds its clock is ahead, so that the lease of who was killed has lapsed.
const (
	sequencerOf = "ROTUNDA_FLEETTEST_SEQUENCER"
	aheadBy     = "ROTUNDA_FLEETTEST_AHEAD"
)

// runSequencer makes entries without end and prints each checkpoint's size.
func runSequencer(state string) error {
	ctx := context.Background()
	ahead, err := strconv.Atoi(os.Getenv(aheadBy))
	if err != nil {
		return err
	}
	now := func() time.Time { return time.Now().Add(time.Duration(ahead) * time.Second) }
	config, err := server.LoadConfig(state)
	if err != nil {
		return err
	}
	place := store.Locate(config.Store)
	place.Now = now
	db, err := store.Open(ctx, place)
	if err != nil {
		return err
	}
	kek, err := keys.OpenKEK(keys.Source{File: config.KEK.File})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for range 2 {
		c, err := control.Open(ctx, control.Options{DB: db, KEK: kek, PublicURL: config.PublicURL, Now: now, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		for range 4 {
			go func() {
				for {
					if _, err := c.CreateToken(ctx, Operator, &api.CreateTokenRequest{}); err != nil {
						failed <- err
					}
				}
			}()
		}
		go func() {
			for {
				n, err := c.SequenceAudit(ctx)
				if err != nil && fault.CodeOf(err) != fault.Conflict {
					failed <- err
				}
				if n > 0 {
					fmt.Println(n)
				}
			}
		}()
	}
	return <-failed
}

// A process whose two sequencers grow the log is killed at any instruction, and
// again: what is left is one log, whole, and begins with what it was before.
func TestKilledSequencerLeavesOneWholeLog(t *testing.T) {
	p := NewPlane(t)
	verifier, err := note.NewVerifier(p.LogKey())
	p.must(err)
	origin := p.Origin()
	p.Stop()
	content, err := yaml.Marshal(p.Config)
	p.must(err)
	p.must(os.WriteFile(filepath.Join(p.Dir, "rotunda.yaml"), content, 0o600))
	var before audit.Checkpoint
	for round := range 6 {
		sequenceUntilKilled(t, p.Dir, 10*(round+1), 3+rand.IntN(30))
		before = grownFrom(t, p.Config.Store, origin, verifier, before)
	}
	t.Logf("%d entries after all", before.Size)
}

func sequenceUntilKilled(t *testing.T, state string, ahead, passes int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	process := exec.Command(self)
	process.Env = append(os.Environ(), sequencerOf+"="+state, fmt.Sprintf("%s=%d", aheadBy, ahead))
	process.Stderr = t.Output()
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for range passes {
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatalf("the sequencer ended: %v", err)
		}
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait() // killed
}

// grownFrom checks the log in the store from its first entry to its newest
// checkpoint, and that it begins with the one before.
func grownFrom(t *testing.T, place, origin string, verifier note.Verifier, before audit.Checkpoint) (now audit.Checkpoint) {
	t.Helper()
	at := store.Locate(place)
	at.Now = func() time.Time { return time.Now().Add(time.Hour) }
	db, err := store.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Read(t.Context(), func(tx *store.Tx) error {
		signed, err := tx.NewestCheckpoint(t.Context())
		if err != nil {
			return err
		}
		if now, err = audit.OpenCheckpoint(signed, origin, verifier); err != nil {
			return err
		}
		size, err := tx.TreeSize(t.Context())
		if err != nil {
			return err
		}
		entries, err := tx.AuditEntries(t.Context(), 0, int(size)+1)
		if err != nil {
			return err
		}
		tree := audit.NewTree()
		for i, entry := range entries {
			if entry.Index != uint64(i) {
				t.Fatalf("entry %d stands where %d should", entry.Index, i)
			}
			if err := tree.Append(audit.LeafHash(entry.Content)); err != nil {
				return err
			}
		}
		kept, err := audit.Root(size, tx.AuditTiles(t.Context()))
		if err != nil {
			return err
		}
		if now.Size != size || tree.Size() != size || tree.Root() != now.Root || kept != now.Root {
			t.Fatalf("size %d; %d entries give %s, the tiles %s; signed are %d and %s", size, tree.Size(), tree.Root(), kept, now.Size, now.Root)
		}
		if now.Size <= before.Size {
			t.Errorf("%d entries, and there were %d", now.Size, before.Size)
		}
		earlier, err := tree.RootAt(before.Size)
		if before.Size > 0 && earlier != before.Root {
			t.Errorf("the log does not begin with its first %d entries", before.Size)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return now
}
