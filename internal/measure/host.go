package measure

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Host is the machine of a run. Its name is not in it: reports are published.
type Host struct {
	CPU        string  `json:"cpu"`
	Cores      int     `json:"cores"`
	MemoryGiB  float64 `json:"memoryGiB"`
	Kernel     string  `json:"kernel"`
	Disk       string  `json:"disk"`       // the file system of the directory in question
	LoadBefore string  `json:"loadBefore"` // over 1, 5 and 15 minutes
	LoadAfter  string  `json:"loadAfter"`
}

// ThisHost looks at this machine, and at the file system that dir is on. What
// can't be learnt is said to be unknown.
func ThisHost(dir string) Host {
	return Host{
		CPU: firstOf("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), MemoryGiB: memory(),
		Kernel: orUnknown(read("/proc/sys/kernel/osrelease")), Disk: fileSystem(dir), LoadBefore: Load(),
	}
}

// Load is the load average now.
func Load() string {
	fields := strings.Fields(read("/proc/loadavg"))
	if len(fields) < 3 {
		return "unknown"
	}
	return strings.Join(fields[:3], " ")
}

func read(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// firstOf is the value of the first line "key : value" of a file.
func firstOf(path, key string) string {
	for scanner := bufio.NewScanner(strings.NewReader(read(path))); scanner.Scan(); {
		if name, value, found := strings.Cut(scanner.Text(), ":"); found && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func memory() float64 {
	kib, _, _ := strings.Cut(firstOf("/proc/meminfo", "MemTotal"), " ")
	n, err := strconv.ParseFloat(kib, 64)
	if err != nil {
		return 0
	}
	return n / (1 << 20)
}

// fileSystem is the kind of the file system that holds dir: that of the longest
// mount point above it.
func fileSystem(dir string) string {
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "unknown"
	}
	kind, longest := "unknown", -1
	for line := range strings.Lines(read("/proc/self/mounts")) {
		fields := strings.Fields(line)
		if len(fields) < 3 || len(fields[1]) <= longest {
			continue
		}
		if at := strings.TrimSuffix(fields[1], "/"); path == at || strings.HasPrefix(path, at+"/") {
			kind, longest = fields[2], len(fields[1])
		}
	}
	return kind
}

// Descriptors raises how many files this process may have open as far as it is
// allowed to, and says how many that is.
func Descriptors(want uint64) (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	if limit.Cur >= want {
		return limit.Cur, nil
	}
	raised := syscall.Rlimit{Cur: want, Max: max(want, limit.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		return want, nil
	}
	raised = syscall.Rlimit{Cur: min(want, limit.Max), Max: limit.Max} // more is for root
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
		return limit.Cur, nil
	}
	return raised.Cur, nil
}
