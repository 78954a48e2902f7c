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

// keep notes down how to end the run later, and says in the report what can
// be done with it until then.
func (d *demo) keep() error {
	content, err := json.Marshal(d.family.IDs())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.directory, runFile), content, 0o600); err != nil {
		return fmt.Errorf("note the processes that are left running: %w", err)
	}
	d.report.Next = fmt.Sprintf(`
The control plane, three agents, the cluster and the greeter are left running;
the clients have ended. What to type next:

  export %[1]s
  %[2]s status
  %[2]s rotate etcd-peers --new-key --reason "to see it happen"
  %[2]s watch
  %[2]s probe %[3]s
  %[2]s audit tail

Make the greeter lie (be-honest ends that), and see what comes of a rotation:

  %[4]s tell %[5]s lie
  %[2]s rotate greeter

End it all, and remove %[6]s:

  %[4]s stop %[6]s
`, d.rotunda.Environment()[0], d.settings.Rotunda, d.greeter, d.self, d.hosts[greeterHost].socket("greeter"), d.directory)
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
