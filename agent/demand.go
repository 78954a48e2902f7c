package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/durable"
)

// demand is that witnesses outside cosign the audit log that this agent is
// shown. A checkpoint is taken before it is cosigned, or a store that went back
// in time would be noticed late; but within a time it must be cosigned by as
// many as agent.yaml requires: itself, or a later one that it is proven to be
// the beginning of.
//
//	none ──shown──▶ awaited ──time is over──▶ overdue
//	  ▲                │                         │
//	  └────────────────┴───── cosigned ◀─────────┘
//
// One checkpoint is awaited at a time, and the newest comes after it: so of all
// that are shown each is cosigned, or an alarm, within twice that time.
type demand struct {
	log       note.Verifier
	witnesses []audit.Cosigner
	required  int
	within    time.Duration // while a server is there
	root      *os.Root      // where an alarm outlives the process

	mu      sync.Mutex // guards what follows
	turns   int        // how often the log went on from an older copy
	upTo    map[string]uint64
	looked  []byte  // at the lines of this checkpoint
	awaited awaited // of size 0: none is
	waited  time.Duration
	at      time.Time // waited is reckoned up to here
	streams uint64    // opened by then
	overdue bool
}

// awaited is a checkpoint that has to be cosigned, as the file has it once that
// is overdue.
type awaited struct {
	Size  uint64    `json:"size"`
	Since time.Time `json:"since"` // it was shown
}

// newDemand is the demand of an agent that has seen the log at a size; nil:
// agent.yaml demands nothing. What was overdue before the start still is.
func newDemand(c WitnessesConfig, root *os.Root, seen *audit.Witness, within time.Duration, now time.Time) (*demand, error) {
	if c.Required == 0 {
		return nil, durable.Remove(root, uncosignedFile)
	}
	witnesses, err := audit.NewCosigners(c.Keys...)
	if err != nil {
		return nil, err
	}
	d := &demand{log: seen.Verifier(), witnesses: witnesses, required: c.Required, within: within, root: root, upTo: map[string]uint64{}, at: now}
	data, err := root.ReadFile(uncosignedFile)
	if errors.Is(err, fs.ErrNotExist) {
		d.show(seen.Size(), now)
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is not cosigned: %w", err)
	}
	kept := awaited{seen.Size(), now} // where the file says nothing, the worst is taken for true
	if json.Unmarshal(data, &kept) != nil || kept.Size > seen.Size() {
		kept.Size = seen.Size()
	}
	d.awaited, d.overdue = kept, kept.Size > 0
	return d, nil
}

// show notes that the agent has been shown the log at a size.
func (d *demand) show(size uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.await(size, now)
}

func (d *demand) await(size uint64, now time.Time) {
	if d.awaited.Size == 0 && size > d.vouched() {
		d.awaited, d.waited, d.at = awaited{size, now}, 0, now
	}
}

// turn notes that the log went on from an older copy: what was cosigned of the
// other one counts no more. Whatever was awaited still is, in this one.
func (d *demand) turn(size uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turns++
	d.looked = nil
	clear(d.upTo)
	d.await(size, now)
	d.awaited.Size = size
}

// vouched is up to which size as many witnesses as are required have cosigned
// the log.
func (d *demand) vouched() uint64 {
	sizes := make([]uint64, len(d.witnesses))
	for i, one := range d.witnesses {
		sizes[i] = d.upTo[one.VerifierKey()]
	}
	slices.Sort(sizes)
	return sizes[len(sizes)-d.required]
}

// find says who cosigned a checkpoint that the server sent, as far as that may
// end what is awaited; nobody: it is not worth a proof.
func (d *demand) find(signed []byte) (cp audit.Checkpoint, by []audit.Cosigner, turns int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(signed) == 0 || d.awaited.Size == 0 || bytes.Equal(signed, d.looked) {
		return cp, nil, d.turns, nil
	}
	if cp, by, err = audit.CosignedBy(signed, d.log, d.witnesses); err != nil || cp.Size < d.awaited.Size {
		return cp, nil, d.turns, err
	}
	return cp, by, d.turns, nil
}

// count counts who cosigned a checkpoint that is proven to be of the log that
// was shown. Was it proven before the log's last turn, it is of another one.
func (d *demand) count(signed []byte, size uint64, by []audit.Cosigner, turns int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if turns != d.turns {
		return
	}
	d.looked = signed
	for _, one := range by {
		d.upTo[one.VerifierKey()] = max(d.upTo[one.VerifierKey()], size)
	}
}

// look reckons how long a server has been there since the checkpoint that is
// awaited was shown, and says in words what is overdue; empty: nothing is. A
// stream that was opened since the last look counts like one that is open: who
// opens and closes them in turn gains no time by it.
func (d *demand) look(now time.Time, open bool, streams uint64, seen uint64) (words string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.awaited.Size > 0 && d.vouched() >= d.awaited.Size {
		if d.overdue {
			err = durable.Remove(d.root, uncosignedFile)
		}
		d.awaited, d.overdue = awaited{}, false
		d.await(seen, now)
	}
	if d.awaited.Size == 0 {
		return "", err
	}
	if open || streams != d.streams {
		d.waited += max(now.Sub(d.at), 0)
	}
	d.at, d.streams = now, streams
	if d.waited >= d.within && !d.overdue {
		d.overdue = true
		err = errors.Join(err, d.keep())
	}
	if !d.overdue {
		return "", err
	}
	have, missing := d.missing()
	return fmt.Sprintf("audit log: the checkpoint of %d entries that was shown at %s has %d of the %d cosignatures that agent.yaml requires; missing: %s",
		d.awaited.Size, d.awaited.Since.UTC().Format(time.RFC3339), have, d.required, strings.Join(missing, ", ")), err
}

func (d *demand) keep() error {
	data, err := json.Marshal(d.awaited)
	if err != nil {
		return err
	}
	return durable.WriteFile(d.root, uncosignedFile, append(data, '\n'), 0o600, nil)
}

// missing names the witnesses who have not cosigned what is awaited, and says
// how many have.
func (d *demand) missing() (have int, missing []string) {
	for _, one := range d.witnesses {
		if d.upTo[one.VerifierKey()] >= d.awaited.Size {
			have++
		} else {
			missing = append(missing, one.Name())
		}
	}
	return have, missing
}

// status is how far the log has been cosigned.
func (d *demand) status(shown uint64) *WitnessesStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	status := &WitnessesStatus{
		Required: d.required, Shown: shown, Cosigned: d.vouched(), Awaited: d.awaited.Size, Since: d.awaited.Since, Overdue: d.overdue,
	}
	for _, one := range d.witnesses {
		status.Witnesses = append(status.Witnesses, WitnessStatus{one.Name(), one.VerifierKey(), d.upTo[one.VerifierKey()]})
	}
	return status
}
