package control

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// Whoever asks while commits go on is told what one commit left, never a part of
// another; and a look after a commit sees it.
func TestDesiresAreOfOneCommit(t *testing.T) {
	d := found(t)
	d.apply(documents)
	var hosts []*host
	for i := range 4 {
		hosts = append(hosts, d.enrolHost(map[string]string{"role": "orders", "host": fmt.Sprint("h", i)}))
	}
	const roots = 8
	done := make(chan struct{})
	var group sync.WaitGroup
	for _, h := range hosts {
		group.Go(func() {
			var seq uint64
			anchors := 1
			for {
				state, err := d.Desired(t.Context(), h.caller)
				if err != nil {
					t.Error(err)
					return
				}
				bundle, err := pki.ParseBundleDER(state.Anchors)
				if err != nil || bundle.Digest().String() != state.Placements[0].BundleDigest {
					t.Errorf("anchors of one commit and a digest of another: %v", err)
					return
				}
				if state.Seq < seq || len(state.Anchors) < anchors {
					t.Errorf("seq %d with %d anchors after %d with %d", state.Seq, len(state.Anchors), seq, anchors)
					return
				}
				seq, anchors = state.Seq, len(state.Anchors)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range roots {
		root, _ := d.foreignRoot(fmt.Sprint("corp ", i))
		if _, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: fmt.Sprint("corp-", i), Root: root.Raw, Trusted: true}); err != nil {
			t.Fatal(err)
		}
		state, err := d.Desired(t.Context(), hosts[0].caller)
		if err != nil || len(state.Anchors) != i+2 {
			t.Fatalf("%d anchors after %d imports, %v", len(state.Anchors), i+1, err)
		}
	}
	close(done)
	group.Wait()
}

// What a Write that is rolled back has seen reaches nobody.
func TestDesiresForgetWhatWasRolledBack(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	root, _ := d.foreignRoot("corp")
	void := errors.New("rolled back")
	err := d.db.Write(t.Context(), func(tx *store.Tx) error {
		if err := d.trustAlso(t.Context(), tx, root); err != nil {
			return err
		}
		common, err := d.commonAt(t.Context(), tx)
		if err != nil {
			return err
		}
		if bundle, err := common.bundle(fleet.DefaultBundle); err != nil || len(bundle.Anchors) != 2 {
			t.Errorf("%d anchors, %v", len(bundle.Anchors), err)
		}
		return void
	})
	if !errors.Is(err, void) {
		t.Fatal(err)
	}
	if state, err := d.Desired(t.Context(), h.caller); err != nil || len(state.Anchors) != 1 {
		t.Errorf("%d anchors, %v", len(state.Anchors), err)
	}
}
