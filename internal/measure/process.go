package measure

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a process of this machine, by its number.
type Process int

// Name is the file that the process runs, without its directory.
func (p Process) Name() (string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p))
	return strings.TrimSpace(string(content)), err
}

// RSSAnon is the process's anonymous resident memory, in bytes.
func (p Process) RSSAnon() (float64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "RssAnon:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("no RssAnon of process %d", p)
}

// CPU is the CPU time that the process used so far, user and system. The kernel
// tells it in hundredths of a second.
func (p Process) CPU() (time.Duration, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(content), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("no CPU time of process %d", p)
	}
	const ticksPerSecond = 100 // USER_HZ, the same on every Linux
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// Spent is the CPU time that the process uses while work is done.
func (p Process) Spent(work func() error) (time.Duration, error) {
	before, err := p.CPU()
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	after, err := p.CPU()
	return after - before, err
}

// OwnCPU is the CPU time that this process used so far, to the microsecond.
func OwnCPU() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0 // it fails only for arguments that are none
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
