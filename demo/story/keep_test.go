package story

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestStopEndsOnlyItsOwn shows that a kept run's end takes its own processes
// with it, and no stranger that was given one of their numbers.
func TestStopEndsOnlyItsOwn(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	own, stranger := sleeper(t, directory), sleeper(t, elsewhere)
	content, err := json.Marshal([]int{own.Process.Pid, stranger.Process.Pid})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, runFile), content, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- own.Wait() }()
	if err := Stop(directory); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("its own process was not ended by a signal")
	}
	if !belongs(stranger.Process.Pid, elsewhere) {
		t.Error("the stranger was ended too")
	}
	if _, err := os.Stat(directory); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

// sleeper is a process with the directory on its command line.
func sleeper(t *testing.T, directory string) *exec.Cmd {
	t.Helper()
	command := exec.Command("sh", "-c", "while :; do sleep 0.1; done", directory)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return command
}
