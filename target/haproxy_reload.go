package target

import (
	"context"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// How often a master's new worker is looked for, how long where the caller has
// more patience than that (a large configuration takes a while), and how long
// a master may be busy with itself.
const (
	haproxyEvery    = 20 * time.Millisecond
	haproxyLoads    = time.Minute
	haproxySettling = time.Second
)

// reloadHAProxyWhole has all of it read again, and waits for a worker that
// has. A reload that fails leaves the old worker and tells the log alone, so
// the configuration is checked first where agent.yaml names the program.
func reloadHAProxyWhole(ctx context.Context, host Host, t Target) (Loaded, error) {
	before, err := t.haproxyWorker(ctx)
	if err != nil {
		return Loaded{}, err
	}
	output := ""
	if t.Control.PIDFile == "" && t.ReloadCommand != "" {
		output, err = t.haproxyByCommand(ctx, host, before)
	} else {
		err = t.haproxyBySignal(ctx, host, before)
	}
	if err != nil {
		return Loaded{Output: output}, err
	}
	if !t.placed("combined.pem") { // of a placement that delivers a bundle alone
		return Loaded{Level: fleet.Loaded, Output: output}, nil
	}
	name, err := t.haproxyName(ctx)
	if err != nil {
		return Loaded{Output: output}, err
	}
	loaded, err := t.haproxyServes(ctx, name)
	loaded.Output = output
	return loaded, err
}

func (t Target) haproxyByCommand(ctx context.Context, host Host, before haproxyWorkerInfo) (string, error) {
	loaded, err := command(ctx, host, Act{Kind: ActReload, Target: t, Command: t.ReloadCommand})
	if err != nil {
		return loaded.Output, err
	}
	return loaded.Output, t.haproxyRenewed(ctx, before, func() error { return nil })
}

func (t Target) haproxyBySignal(ctx context.Context, host Host, before haproxyWorkerInfo) error {
	master, err := t.haproxyMaster(ctx, before)
	if err != nil {
		return err
	}
	defer func() { _ = master.Release() }() // forgets it; the process runs on
	if err := t.haproxyCheck(ctx, host); err != nil {
		return err
	}
	start := haproxySettles(ctx, master.Pid)
	if err := t.send(ctx, master, syscall.SIGUSR2); err != nil {
		return err
	}
	return t.haproxyRenewed(ctx, before, t.haproxyHeard(ctx, master, start))
}

// haproxyHeard is asked as long as the old worker answers: whether the master
// has failed, and whether the signal was lost and has to be sent once more.
func (t Target) haproxyHeard(ctx context.Context, master *os.Process, start haproxyReloads) func() error {
	sent := time.Now()
	return func() error {
		now := reloadsOf(master.Pid)
		switch {
		case !start.known || !now.known || !now.idle:
			return nil
		case now.failed > start.failed:
			return t.haproxyKeeps("it refused what it read")
		case now.count == start.count && time.Since(sent) > haproxySettling:
			sent = time.Now()
			return t.send(ctx, master, syscall.SIGUSR2)
		}
		return nil
	}
}

func (t Target) haproxyKeeps(why string) error {
	return fault.New(fault.Invalid, "target %s: HAProxy was told to reload, and its old worker still answers: %s", t.Name, why).
		WithRemedy("see its log, or haproxy -c -f haproxy.cfg; name program and arguments under targets.%s in agent.yaml to have that said here", t.Name)
}

// haproxyCheck has HAProxy's own program check the configuration.
func (t Target) haproxyCheck(ctx context.Context, host Host) error {
	if t.Control.Program == "" {
		return nil
	}
	argv := append([]string{t.Control.Program}, t.Control.Arguments...)
	output, err := host.Program(ctx, t.Control.RunAs, append(argv, "-c")...)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "target %s: HAProxy's configuration does not load, so it was not told to: %s", t.Name, quote(ending(output))).
			WithRemedy("mend it; %s -c tells the same", strings.Join(argv, " "))
	}
	return nil
}

// haproxyRenewed waits until another worker answers.
func (t Target) haproxyRenewed(ctx context.Context, before haproxyWorkerInfo, still func() error) error {
	ctx, cancel := context.WithTimeout(ctx, haproxyLoads)
	defer cancel()
	look := time.NewTicker(haproxyEvery)
	defer look.Stop()
	for {
		now, err := t.haproxyWorker(ctx)
		if err == nil && now.pid != before.pid {
			return nil
		}
		if err := still(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			if err != nil && fault.CodeOf(err) == fault.Unavailable {
				return err
			}
			return t.haproxyKeeps("it refused what it read, or is not done")
		case <-look.C:
		}
	}
}
