package story

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

// commandLine is how the process was started. A process that has ended and
// was not waited for has none.
func commandLine(id int) (string, error) {
	if runtime.GOOS == "linux" {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", id))
		return string(content), err
	}
	out, err := exec.Command("ps", "-o", "command=", "-p", fmt.Sprint(id)).Output()
	return string(out), err
}
