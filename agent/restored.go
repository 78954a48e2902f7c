package agent

import (
	"fmt"
	"os"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// turn looks at a state of a higher epoch than any before: a server whose store
// was put back from a copy and restored. Such a state is taken only with the
// entry of that restore, proven to be in the log whose key is pinned here; and
// the witness goes over to that log before anything of the epoch is believed.
// What it had seen before stays beside it, as an alarm that nobody can end but
// on this host.
func (s *syncer) turn(state *api.DesiredState) error {
	if s.epoch() == 0 || state.Epoch <= s.epoch() {
		return nil
	}
	if state.Restored == nil {
		return fault.New(fault.Forbidden, "it does not show by which restore").
			WithRemedy("look at the server's audit log: an epoch begins with an entry %s", audit.VerbRestored)
	}
	said, err := audit.ReadRestoration(state.Restored.Entry, s.witness.seen.Origin())
	if err != nil {
		return err
	}
	if said.Epoch != state.Epoch {
		return fault.New(fault.Forbidden, "the restore that it shows began epoch %d", said.Epoch)
	}
	proof, err := hashes(state.Restored.Proof)
	if err != nil {
		return err
	}
	news, err := s.witness.seen.Turn(state.Checkpoint, state.Restored.Entry, state.Restored.Index, proof)
	if err != nil {
		return err
	}
	if news {
		s.log.Error("AUDIT LOG GOES ON FROM AN OLDER COPY", "epoch", said.Epoch, "kept", said.Kept.Size, "seen", said.Seen.Size, "reason", said.Reason)
	}
	s.alarms.set(alarmFork, "")
	s.alarms.set(alarmUnproven, "")
	if s.witness.demand != nil {
		s.witness.demand.turn(s.witness.seen.Size(), s.now())
	}
	s.witness.showTurns()
	return nil
}

// showTurns raises the alarm of restores that nobody on this host has
// acknowledged, or clears it.
func (w *logWitness) showTurns() {
	text := ""
	for _, one := range w.seen.Turns() {
		said, err := audit.ReadRestoration(one.Entry, w.seen.Origin())
		if err != nil {
			continue
		}
		text = fmt.Sprintf("audit log: the store was restored (%s): it goes on in epoch %d from %d entries, %d had been seen; once that is looked into: rotunda agent acknowledge, on this host",
			one.Reason, said.Epoch, said.Kept.Size, said.Seen.Size)
	}
	w.alarms.set(alarmRestored, text)
}

func hashes(raw [][]byte) ([]audit.Hash, error) {
	all := make([]audit.Hash, len(raw))
	for i, one := range raw {
		if len(one) != len(all[i]) {
			return nil, fault.New(fault.Invalid, "proof: hash %d has %d bytes", i, len(one))
		}
		copy(all[i][:], one)
	}
	return all, nil
}

// Acknowledge ends the alarm about a restored store on this host, whether its
// agent runs or not. What it had seen is kept beside.
func Acknowledge(config *Config, now time.Time) error {
	root, err := os.OpenRoot(config.State)
	if err != nil {
		return fault.Wrap(fault.NotFound, err, "state directory")
	}
	defer root.Close()
	return audit.Acknowledge(root, witnessFile, now)
}
