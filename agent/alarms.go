package agent

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// The kinds of agent-wide trouble. Each stands until it is cleared.
const (
	alarmClock    = "clock"
	alarmFork     = "fork"
	alarmUnproven = "unproven"
	alarmCosigned = "cosignatures"
	alarmIdentity = "identity"
	alarmServer   = "server"
	alarmDisk     = "disk"
	alarmEpoch    = "epoch"
	alarmRestored = "restored"
)

// alarms is what is wrong with the agent as a whole. It goes with each report.
type alarms struct {
	mu       sync.Mutex
	standing map[string]string
	changed  chan struct{}
}

func newAlarms() *alarms {
	return &alarms{standing: map[string]string{}, changed: make(chan struct{}, 1)}
}

// set raises an alarm, or clears it when text is empty, and says whether that
// changed anything.
func (a *alarms) set(kind, text string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.standing[kind] == text {
		return false
	}
	if text == "" {
		delete(a.standing, kind)
	} else {
		a.standing[kind] = text
	}
	select {
	case a.changed <- struct{}{}:
	default: // one is waiting already
	}
	return true
}

// text is all that stand, as the report carries them.
func (a *alarms) text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var texts []string
	for _, kind := range slices.Sorted(maps.Keys(a.standing)) {
		texts = append(texts, a.standing[kind])
	}
	return strings.Join(texts, "; ")
}

// kinds is which stand, for the metrics.
func (a *alarms) kinds() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.standing))
}
