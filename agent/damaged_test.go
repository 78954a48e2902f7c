package agent

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// logText is a log that may be read while it is written.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logText) holds(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, word := range words {
		if !strings.Contains(l.text.String(), word) {
			return false
		}
	}
	return true
}

// A damaged boot counter keeps the agent from connecting, and its log says so,
// and how to come back.
func TestDamagedBootCounter(t *testing.T) {
	p := newPlane(t)
	address, stop := p.serve(t, "127.0.0.1:0")
	defer stop()
	config := configFor(t.TempDir(), address)
	a := start(t, config, p.token(""))
	p.stream(t)
	a.stop(t)
	check(t, os.WriteFile(filepath.Join(config.State, bootFile), []byte("\x00\x00"), 0o600))
	log := new(logText)
	b := start(t, config, "", func(o *Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
	waitFor(t, "the log to say so", func() bool { return log.holds("level=ERROR", "boot counter", "rotunda agent rejoin") })
	b.stop(t)
}

func TestDamagedWitness(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, witnessFile), []byte("damaged"), 0o600))
	_, key, err := audit.NewLogKey("lab.test/audit")
	check(t, err)
	_, err = openWitness(mustRoot(t, dir), key, audit.Origin("lab.test"))
	wantFault(t, err, fault.Conflict, "backup", "remove "+witnessFile)
}
