package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
)

// record is what the agent remembers of a placement, in
// placements/ID/record.json: the facts that rotations are derived from, and
// what reports say besides.
type record struct {
	rotation.Record
	Directory string                `json:"directory"`           // whose revisions these are
	Files     map[uint64][]fileFact `json:"files,omitempty"`     // by revision
	Level     api.Level             `json:"level"`               // shown for the revision in use
	Trusts    pki.BundleDigest      `json:"trusts"`              // that the process is known to have taken
	Untried   uint64                `json:"untried,omitempty"`   // revision that was proven without canaries, which could not be had
	Sessions  []string              `json:"sessions,omitempty"`  // anchors that were withdrawn, and sessions under which were not seen refused yet
	Pending   string                `json:"pending,omitempty"`   // takes effect only later, and when
	Observed  *evidence             `json:"observed,omitempty"`  // newest
	Failure   *failure              `json:"failure,omitempty"`   // of the newest failed attempt, until one succeeds
	Committed time.Time             `json:"committed,omitzero"`  // the newest
	Took      time.Duration         `json:"took,omitempty"`      // of the last rotation, from request to proof
	Rotations uint64                `json:"rotations,omitempty"` // committed
	Restores  uint64                `json:"restores,omitempty"`  // proven
	Lists     map[string]string     `json:"lists,omitempty"`     // the newest number of a CRL that was in use, by issuer
	CRLLevel  api.Level             `json:"crlLevel,omitempty"`  // shown for the CRLs in use
	Orders    []carried             `json:"orders,omitempty"`    // carried out, of those that were desired then
	Destroyed []destroyed           `json:"destroyed,omitempty"` // keys of earlier generations, the newest last
}

// destroyed is a key whose file was unlinked.
type destroyed struct {
	Generation uint64    `json:"generation"`
	At         time.Time `json:"at"`
}

// mostDestroyed is of how many destroyed keys the record says: so many may go
// between two reports that reach the server.
const mostDestroyed = 8

type evidence struct {
	Statement []byte `json:"statement"`
	Signature []byte `json:"signature"`
	Observer  string `json:"observer"`
}

type failure struct {
	Step       rotation.Action `json:"step"`
	Reason     string          `json:"reason"`
	Generation uint64          `json:"generation"`
	At         time.Time       `json:"at"`
	Restored   bool            `json:"restored"`
	Evidence   []byte          `json:"evidence,omitempty"` // its digest
	Lists      bool            `json:"lists,omitempty"`    // who was revoked is served, and nothing else is wrong
}

const recordFile = "record.json"

// drawer is the placement's directory in the agent's state: its record, keys,
// chains and bundles. Only the agent reads it.
type drawer struct {
	root *os.Root // the agent's state directory
	dir  string
}

func (d drawer) path(name string) string { return path.Join(d.dir, name) }

// open makes the directory and reads the record. A record that can't be read
// is set aside: without it the placement begins anew, with higher numbers,
// which harms nobody; to guess at a broken one might.
func (d drawer) open() (r record, aside string, err error) {
	if err := durable.Mkdir(d.root, d.dir, 0o700, nil); err != nil {
		return r, "", err
	}
	if _, err := durable.Sweep(d.root, d.dir); err != nil {
		return r, "", err
	}
	content, err := d.content()
	if err != nil || content == nil {
		return r, "", err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		aside := recordFile + ".broken"
		if err := durable.WriteFile(d.root, d.path(aside), content, 0o600, nil); err != nil {
			return r, "", err
		}
		return record{}, aside, durable.Remove(d.root, d.path(recordFile))
	}
	return r, "", nil
}

// content is the record as it lies on disk; nil: there is none.
func (d drawer) content() ([]byte, error) {
	content, err := d.root.ReadFile(d.path(recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return content, nil
}

// read is the record for who only looks at it.
func (d drawer) read() (r record, err error) {
	content, err := d.content()
	if err != nil || content == nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("read record: %w", err)
	}
	return r, nil
}

// save writes the record. On a full disk the reserve is given up, so that what
// was begun can be ended.
func (d drawer) save(r *record) error {
	content, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	err = durable.WriteFile(d.root, d.path(recordFile), content, 0o600, nil)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		if err := durable.Remove(d.root, d.path(reserveFile)); err != nil {
			return err
		}
		err = durable.WriteFile(d.root, d.path(recordFile), content, 0o600, nil)
	}
	if err != nil {
		return fmt.Errorf("save record: %w", err)
	}
	return nil
}

// The reserve is space that records may use when the disk is full: to know
// that a proof failed, and to go back, must not fail for want of a block.
const (
	reserveFile = "reserve"
	reserveSize = 64 << 10
)

func (d drawer) reserve() error {
	if info, err := d.root.Stat(d.path(reserveFile)); err == nil && info.Size() == reserveSize {
		return nil
	}
	// Not zeroes: a file system may store those as nothing.
	filler := make([]byte, reserveSize)
	for i := range filler {
		filler[i] = byte(i*7 + i>>8)
	}
	return durable.WriteFile(d.root, d.path(reserveFile), filler, 0o600, nil)
}

// slotID names the slot that is begun, or "".
func (r *record) slotID() string {
	if r.Slot == nil {
		return ""
	}
	return r.Slot.ID
}

// clone is a copy that shares nothing that is ever changed in place. What
// stands behind the other pointers is only ever replaced.
func (r *record) clone() record {
	copied := *r
	copied.Generations, copied.Revisions, copied.Files = slices.Clone(r.Generations), slices.Clone(r.Revisions), maps.Clone(r.Files)
	if r.Failure != nil {
		failure := *r.Failure
		copied.Failure = &failure
	}
	return copied
}
