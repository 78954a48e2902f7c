package story

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// runFile notes, in a kept run's directory, which processes are its own.
const runFile = "processes.json"

// keep leaves the run as it is, and says what can be done with it.
func (d *demo) keep() error {
	content, err := json.Marshal(d.family.IDs())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.directory, runFile), content, 0o600); err != nil {
		return fmt.Errorf("note the processes that are left running: %w", err)
	}
	rotunda := d.settings.Rotunda
	d.screen.Say(`
The control plane, three agents, the cluster and the greeter are left running;
the clients have ended. What to type next:

  export %s
  %s status
  %s watch
  %s rotate etcd-peers --new-key --reason "I want to see it"
  %s probe %s
  %s tell %s lie     # then rotate greeter, and watch
  %s audit tail

To end it all and remove %s:

  %s stop %s
`, d.rotunda.Environment()[0], rotunda, rotunda, rotunda, rotunda, d.greeter,
		d.self, d.hosts[greeterHost].socket("greeter"), rotunda, d.directory, d.self, d.directory)
	return nil
}

// endWithin is how long the processes of a kept run may take to end.
const endWithin = 10 * time.Second

// Stop ends a run that was kept, and removes its directory. It ends only
// processes that still run with that directory on their command line, so that
// a number that was given to another process since harms nobody.
func Stop(directory string) error {
	content, err := os.ReadFile(filepath.Join(directory, runFile))
	if err != nil {
		return fmt.Errorf("find the run that was kept: %w", err)
	}
	var ids []int
	if err := json.Unmarshal(content, &ids); err != nil {
		return fmt.Errorf("read %s: %w", runFile, err)
	}
	for _, id := range ids {
		if err := end(id, directory); err != nil {
			return err
		}
	}
	return os.RemoveAll(directory)
}

func end(id int, directory string) error {
	if !belongs(id, directory) {
		return nil
	}
	if err := syscall.Kill(id, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", id, err)
	}
	// It is not our child, so nothing tells when it is gone but looking.
	for deadline := time.Now().Add(endWithin); belongs(id, directory); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(id, syscall.SIGKILL)
			return nil
		}
	}
	return nil
}

// belongs says whether the process runs and names the directory in its
// command line.
func belongs(id int, directory string) bool {
	line, err := commandLine(id)
	return err == nil && strings.Contains(line, directory)
}
