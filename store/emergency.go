package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// EmergencyWindow is a time in which agents may renew identities that have
// expired.
type EmergencyWindow struct {
	ID       string
	Agents   []string // empty: all
	Reason   string
	OpenedBy string
	OpenedAt time.Time
	EndsAt   time.Time
	ClosedAt time.Time // zero: it was not ended before its time
	Renewed  uint64

	agents string
}

const windowColumns = `id, agents, reason, opened_by, opened_at, ends_at, closed_at, renewed`

func (w *EmergencyWindow) columns() []any {
	return []any{&w.ID, &w.agents, &w.Reason, &w.OpenedBy, moment{&w.OpenedAt}, moment{&w.EndsAt}, moment{&w.ClosedAt}, &w.Renewed}
}

var theWindow = thing{noun: "emergency window"}

// InsertEmergencyWindow opens a window, now.
func (tx *Tx) InsertEmergencyWindow(ctx context.Context, w EmergencyWindow) error {
	agents, err := json.Marshal(w.Agents)
	if err != nil {
		return theWindow.wrap(err)
	}
	return tx.insert(ctx, theWindow, `
		INSERT INTO emergency_window (id, agents, reason, opened_by, opened_at, ends_at, renewed) VALUES ($1, $2, $3, $4, $5, $6, 0)`,
		w.ID, string(agents), w.Reason, w.OpenedBy, micros(tx.Now), micros(w.EndsAt))
}

// OpenEmergencyWindows returns those that are open, the oldest first.
func (tx *Tx) OpenEmergencyWindows(ctx context.Context) ([]EmergencyWindow, error) {
	open, err := list[EmergencyWindow](ctx, tx, "emergency windows", `
		SELECT `+windowColumns+` FROM emergency_window WHERE ends_at > $1 AND closed_at IS NULL ORDER BY opened_at, id`, micros(tx.Now))
	for i := range open {
		if err := json.Unmarshal([]byte(open[i].agents), &open[i].Agents); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "emergency window %s", open[i].ID)
		}
	}
	return open, err
}

// EmergencyWindowOf returns a window that is open for the agent.
func (tx *Tx) EmergencyWindowOf(ctx context.Context, agentID string) (EmergencyWindow, error) {
	open, err := tx.OpenEmergencyWindows(ctx)
	for _, window := range open {
		if len(window.Agents) == 0 || slices.Contains(window.Agents, agentID) {
			return window, nil
		}
	}
	if err == nil {
		err = fault.New(fault.NotFound, "no emergency window is open for agent %s", agentID)
	}
	return EmergencyWindow{}, err
}

// CloseEmergencyWindow ends a window that is open.
func (tx *Tx) CloseEmergencyWindow(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"open emergency window", id}, `
		UPDATE emergency_window SET closed_at = $2 WHERE id = $1 AND closed_at IS NULL AND ends_at > $2`, id, micros(tx.Now))
}

// CountEmergencyRenewal counts an identity that was renewed in a window.
func (tx *Tx) CountEmergencyRenewal(ctx context.Context, id string) error {
	return tx.set(ctx, theWindow, `UPDATE emergency_window SET renewed = renewed + 1 WHERE id = $1`, id)
}

// EmergencyCredential says of an operator's certificate that it is for
// emergencies.
type EmergencyCredential struct {
	Serial     pki.Serial
	Name       string
	Uses       uint64 // how often it may be used
	Used       uint64
	LastUsedAt time.Time
	CreatedBy  string
}

const emergencyColumns = `serial, name, uses, used, last_used_at, created_by`

func (c *EmergencyCredential) columns() []any {
	return []any{fixed(c.Serial[:]), &c.Name, &c.Uses, &c.Used, moment{&c.LastUsedAt}, &c.CreatedBy}
}

// InsertEmergencyCredential records one, unused.
func (tx *Tx) InsertEmergencyCredential(ctx context.Context, c EmergencyCredential) error {
	return tx.insert(ctx, thing{"emergency credential", c.Serial}, `
		INSERT INTO emergency_credential (serial, name, uses, used, created_by) VALUES ($1, $2, $3, 0, $4)`,
		c.Serial[:], c.Name, c.Uses, c.CreatedBy)
}

// EmergencyCredential returns the one of the serial.
func (tx *Tx) EmergencyCredential(ctx context.Context, serial pki.Serial) (EmergencyCredential, error) {
	return one[EmergencyCredential](ctx, tx, thing{"emergency credential", serial}, `
		SELECT `+emergencyColumns+` FROM emergency_credential WHERE serial = $1`, serial[:])
}

// EmergencyCredentials returns all of them, by name.
func (tx *Tx) EmergencyCredentials(ctx context.Context) ([]EmergencyCredential, error) {
	return list[EmergencyCredential](ctx, tx, "emergency credentials", `
		SELECT `+emergencyColumns+` FROM emergency_credential ORDER BY name, serial`)
}

// UseEmergencyCredential counts a use; one that is used up is a Conflict.
func (tx *Tx) UseEmergencyCredential(ctx context.Context, serial pki.Serial) error {
	return tx.swap(ctx, thing{"unused emergency credential", serial}, `
		UPDATE emergency_credential SET used = used + 1, last_used_at = $2 WHERE serial = $1 AND used < uses`, serial[:], micros(tx.Now))
}
