package command

import "sync"

// How much is kept of what a command and a program print. What a program
// prints may be read by who started it: nginx prints its whole configuration.
const (
	MaxOutput  = 16 << 10
	maxProgram = 4 << 20
)

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*maxProgram {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-maxProgram:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept[max(0, len(t.kept)-maxProgram):])
}
