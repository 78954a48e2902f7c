package operator

import (
	"encoding/json"
	"fmt"
	"time"
)

// Placement is a line of rotunda status.
type Placement struct {
	ID         string     `json:"id"`
	Service    string     `json:"service"`
	Intent     string     `json:"intent"`
	Agent      string     `json:"agent"`
	Generation uint64     `json:"generation"`
	Serial     string     `json:"serial"`
	NotAfter   time.Time  `json:"notAfter"`
	State      string     `json:"state"` // waiting, rotating, steady, failed, orphan
	Level      string     `json:"level"` // delivered, loaded, proven
	Reason     string     `json:"reason"`
	Failure    *Failure   `json:"failure"`
	Took       Duration   `json:"took"` // from request to proof, of the last rotation
	Rotations  uint64     `json:"rotations"`
	Restores   uint64     `json:"restores"`
	RotateAt   *time.Time `json:"rotateAt"` // of a rotation that was asked for and has not come about
}

// Failure is the last attempt that failed, until one succeeds.
type Failure struct {
	Step       string `json:"step"` // request, stage, check, activate, prove, restore
	Reason     string `json:"reason"`
	Generation uint64 `json:"generation"`
	Restored   bool   `json:"restored"`
}

// Steady says whether the placement holds what it should.
func (p Placement) Steady() bool { return p.State == "steady" && p.Failure == nil }

// Duration is written as Go writes it: 1.5s.
type Duration time.Duration

// UnmarshalJSON reads a duration; null is none.
func (d *Duration) UnmarshalJSON(content []byte) error {
	var text *string
	if err := json.Unmarshal(content, &text); err != nil {
		return err
	}
	if text == nil {
		*d = 0
		return nil
	}
	parsed, err := time.ParseDuration(*text)
	if err != nil {
		return fmt.Errorf("duration %q: %w", *text, err)
	}
	*d = Duration(parsed)
	return nil
}
