package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/demo/process"
)

// Change is a change of trust as rotunda trust status prints it.
type Change struct {
	ID      string     `json:"id"`
	Phase   string     `json:"phase"`   // distribute, prove, reissue, drain, unbridge, withdraw, refuse, retire, done
	Through string     `json:"through"` // the last phase that it may enter
	BegunAt time.Time  `json:"begunAt"`
	EndedAt *time.Time `json:"endedAt"`
	Old     TrustEnd   `json:"old"`
	New     TrustEnd   `json:"new"`
	Parties []Party    `json:"parties"`
	Holders []Holder   `json:"holders"`
	Waits   []Wait     `json:"waits"`
}

// TrustEnd is one end of a change: the names of its authorities.
type TrustEnd struct {
	Root    string `json:"root"`
	Issuing string `json:"issuing"`
}

// Party is one who must adopt the new anchor, and let go of the old one.
type Party struct {
	Name      string `json:"name"`
	Placement string `json:"placementId"` // empty: an agent
	Agent     string `json:"agent"`
	Service   string `json:"service"`
	Has       string `json:"has"`   // delivered, loaded, proven; empty: nothing
	Needs     string `json:"needs"` // the level that its kind can show
}

var levels = map[string]int{"delivered": 1, "loaded": 2, "proven": 3}

// Ready says whether the party has come as far as it is wanted to.
func (p Party) Ready() bool { return levels[p.Has] >= levels[p.Needs] }

// Holder has a live certificate under the old authority.
type Holder struct {
	Name      string `json:"name"`
	Placement string `json:"placementId"` // empty: Rotunda can't renew it
}

// Wait is one reason why a change does not go on.
type Wait struct {
	Who    string `json:"who"`
	Reason string `json:"reason"`
}

// ReplaceRoot begins to replace the trust domain's root, whose key is in the
// file, by one that is made in the directory next. It returns the change.
func (r Rotunda) ReplaceRoot(ctx context.Context, key, next string, over time.Duration, reason string) (Change, error) {
	var begun struct{ Change Change }
	err := r.ask(ctx, &begun, "trust", "rotate", "root", "--root-key", key, "--new-root", next, "--over", over.String(), "--reason", reason)
	return begun.Change, err
}

// FollowTrust calls seen with the change at first and whenever it is another,
// until seen has enough, or the change has ended.
func (r Rotunda) FollowTrust(ctx context.Context, id string, seen func(Change) (enough bool, err error)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	arguments := []string{"trust", "status", id, "--watch", "--output", "json"}
	command := exec.CommandContext(ctx, r.Binary, arguments...)
	command.Env = append(os.Environ(), r.Environment()...)
	command.SysProcAttr = process.Bound()
	var said strings.Builder
	command.Stderr = &said
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return fmt.Errorf("start rotunda trust status: %w", err)
	}
	enough, err := followChanges(json.NewDecoder(out), id, seen)
	if enough || err != nil {
		stop()
		_ = command.Wait() // it was stopped
		return err
	}
	if err := command.Wait(); err != nil {
		return fmt.Errorf("rotunda %s ended: %w: %s", strings.Join(arguments, " "), errors.Join(context.Cause(ctx), err), strings.TrimSpace(said.String()))
	}
	return nil
}

// followChanges reads one list after the other.
func followChanges(lists *json.Decoder, id string, seen func(Change) (bool, error)) (enough bool, err error) {
	for {
		var list struct{ Changes []Change }
		err := lists.Decode(&list)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read what rotunda trust status printed: %w", err)
		}
		for _, change := range list.Changes {
			if change.ID != id {
				continue
			}
			if enough, err := seen(change); enough || err != nil {
				return enough, err
			}
		}
	}
}
