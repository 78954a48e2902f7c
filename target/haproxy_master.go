package target

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// haproxyMaster is the process of the pid file, if it is the master of the
// worker that answers. To any other HAProxy SIGUSR2 would be its end.
func (t Target) haproxyMaster(ctx context.Context, worker haproxyWorkerInfo) (*os.Process, error) {
	master, err := t.process(ctx, "haproxy")
	if err != nil {
		return nil, err
	}
	parent, err := parentOf(worker.pid)
	if err == nil && parent == master.Pid {
		return master, nil
	}
	pid := master.Pid
	_ = master.Release() // not to be signalled
	if pid == worker.pid {
		return nil, fault.New(fault.Invalid, "target %s: HAProxy runs without a master, which alone can be told to reload", t.Name).
			WithRemedy("start it with -W or -Ws (master-worker), or remove pidFile and let the intent name a reloadCommand")
	}
	return nil, fault.New(fault.Invalid, "target %s: process %d of pid file %s is not the master of worker %d, which answers at %s",
		t.Name, pid, t.Control.PIDFile, worker.pid, t.Control.Address).
		WithRemedy("name the socket and the pid file of one HAProxy under targets.%s in agent.yaml; where it runs in a container, let the intent name a reloadCommand instead of pidFile", t.Name)
}

// parentOf reads the fourth field of /proc/PID/stat; the second one, in
// parentheses, may hold anything.
func parentOf(pid int) (int, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 2 {
		return 0, syscall.EINVAL
	}
	return strconv.Atoi(fields[1])
}

// haproxyReloads is what a master hands on to itself when it executes its
// program anew: once to read its configuration, and once more (idle) when that
// is done, well or not. A signal that comes before it listens again is lost.
type haproxyReloads struct {
	known         bool
	idle          bool
	count, failed int
}

// reloadsOf reads it from the environment that the master was executed with.
// It is nobody's promise: where it is not there, or not to be read, nothing is
// known, and nothing but time is lost by that.
func reloadsOf(master int) haproxyReloads {
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(master) + "/environ")
	if err != nil {
		return haproxyReloads{}
	}
	r := parseReloads(string(environ), master)
	signals := signalsOf(master)
	r.idle = r.idle && signals.caught(syscall.SIGUSR2) && !signals.holds(syscall.SIGUSR2)
	return r
}

func parseReloads(environ string, master int) haproxyReloads {
	var r haproxyReloads
	for variable := range strings.SplitSeq(environ, "\x00") {
		if variable == "HAPROXY_MWORKER_WAIT_ONLY=1" {
			r.idle = true
		}
		processes, ok := strings.CutPrefix(variable, "HAPROXY_PROCESSES=")
		if !ok {
			continue
		}
		for process := range strings.SplitSeq(processes, "|") {
			fields := values(strings.ReplaceAll(process, ";", "\n"), "=")
			if fields["type"] != "m" || fields["pid"] != strconv.Itoa(master) {
				continue
			}
			count, countErr := strconv.Atoi(fields["reloads"])
			failed, failedErr := strconv.Atoi(fields["failedreloads"])
			r.known, r.count, r.failed = countErr == nil && failedErr == nil, count, failed
		}
	}
	return r
}

// haproxySettles waits until the master idles, or for as long as the start of
// one takes.
func haproxySettles(ctx context.Context, master int) haproxyReloads {
	ctx, cancel := context.WithTimeout(ctx, haproxySettling)
	defer cancel()
	look := time.NewTicker(haproxyEvery)
	defer look.Stop()
	for {
		now := reloadsOf(master)
		if now.known && now.idle {
			return now
		}
		select {
		case <-ctx.Done():
			return now
		case <-look.C:
		}
	}
}
