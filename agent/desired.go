package agent

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/durable"
)

// wishes is the newest desired state, in memory and on disk, so that the agent
// goes on without a server after a restart.
type wishes struct {
	root    *os.Root
	current *api.DesiredState // nil before the first
	kept    [sha256.Size]byte // of the content that lies on disk
}

// openWishes reads the state taken last. One that is damaged counts as none:
// the server sends it again, and what stands in the host's directories is not
// touched without it.
func openWishes(root *os.Root, log *slog.Logger) (*wishes, error) {
	w := &wishes{root: root}
	data, err := root.ReadFile(desiredFile)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read desired state: %w", err)
	}
	state := new(api.DesiredState)
	if len(data) < sha256.Size || sha256.Sum256(data[sha256.Size:]) != [sha256.Size]byte(data[:sha256.Size]) ||
		proto.Unmarshal(data[sha256.Size:], state) != nil {
		log.Warn("the desired state on disk is damaged; waiting for the server's", "file", desiredFile)
		return w, nil
	}
	w.current, w.kept = state, w.content(state)
	return w, nil
}

// older says whether state comes before what was taken: a lower epoch is an
// older store, a lower number an older message.
func (w *wishes) older(state *api.DesiredState) bool {
	epoch, seq := w.current.GetEpoch(), w.current.GetSeq()
	return state.Epoch < epoch || state.Epoch == epoch && state.Seq < seq
}

// take makes state the current one and keeps it. When it can't be kept it is
// the current one all the same: after a restart the one before it holds, and
// the server sends the newest again.
func (w *wishes) take(state *api.DesiredState) error {
	w.current = state
	content := w.content(state)
	if bytes.Equal(content[:], w.kept[:]) {
		return nil
	}
	data, err := proto.Marshal(state)
	if err != nil {
		return fmt.Errorf("keep desired state: %w", err)
	}
	sum := sha256.Sum256(data)
	if err := durable.WriteFile(w.root, desiredFile, append(sum[:], data...), 0o600, nil); err != nil {
		return fmt.Errorf("keep desired state: %w", err)
	}
	w.kept = content
	return nil
}

// content is a digest of what the state asks for. What changes by itself with
// each message is not worth an fsync.
func (w *wishes) content(state *api.DesiredState) [sha256.Size]byte {
	asks := &api.DesiredState{
		Epoch: state.Epoch, Placements: state.Placements, Anchors: state.Anchors, RenewIdentityAt: state.RenewIdentityAt,
		Region: state.Region, Servers: state.Servers,
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(asks)
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(data)
}
