package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/target"
)

// targetHost is what adapters may have done on this host.
func (h *HostRules) targetHost() target.Host {
	return target.Host{Command: h.runCommand, Program: runProgram}
}

// runCommand runs a command that agent.yaml names, as the user that it names,
// and returns the end of what it printed.
//
// A command that was begun is not stopped with the agent: half a restart is
// worse than a late stop.
func (h *HostRules) runCommand(ctx context.Context, name string) (string, error) {
	command, err := h.Command(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), command.Timeout)
	defer cancel()
	output, err := runProgram(ctx, command.User, command.Argv...)
	output = output[max(0, len(output)-maxTail):]
	switch {
	case err == nil:
		return output, nil
	case ctx.Err() != nil:
		return output, fmt.Errorf("command %s: killed after %s, its time limit", name, command.Timeout)
	case errors.Is(err, fs.ErrNotExist):
		return output, fault.Wrap(fault.Invalid, err, "command %s", name).WithRemedy("mend its argv in agent.yaml")
	case fault.CodeOf(err) == fault.Invalid:
		return output, fault.Wrap(fault.Invalid, err, "command %s", name).WithRemedy("mend its user in agent.yaml")
	}
	return output, fmt.Errorf("command %s: %w", name, err)
}

// runProgram runs a program as a user, the agent's own where that is empty, and
// returns the end of what it printed. When ctx ends, it and all that it started
// are killed.
func runProgram(ctx context.Context, account string, argv ...string) (string, error) {
	attributes, environment, err := runAs(account)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "run %s as %s", argv[0], account)
	}
	output := new(tail)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", environment, attributes
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for what left the group and keeps the pipe
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil // it ended well, and left a child that keeps the pipe
	}
	return output.String(), err
}

// runAs is how a process is started as a user: in a group of its own, with
// that user's groups and none of the agent's environment.
func runAs(name string) (*syscall.SysProcAttr, []string, error) {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	own, err := user.Current()
	if err != nil {
		return nil, nil, err
	}
	account := own
	if name != "" && name != own.Username {
		if account, err = user.Lookup(name); err != nil {
			return nil, nil, err
		}
		if attributes.Credential, err = credentialOf(account); err != nil {
			return nil, nil, err
		}
	}
	return attributes, []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + account.HomeDir, "USER=" + account.Username, "LOGNAME=" + account.Username, "LANG=C.UTF-8",
	}, nil
}

func credentialOf(account *user.User) (*syscall.Credential, error) {
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	credential := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	groups, err := account.GroupIds()
	if err != nil {
		return nil, err
	}
	for _, text := range groups {
		group, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, err
		}
		credential.Groups = append(credential.Groups, uint32(group))
	}
	if os.Geteuid() != 0 {
		credential.NoSetGroups = true
	}
	return credential, nil
}

// How much is kept of what a command and a program print. What a program
// prints is read by an adapter: nginx prints its whole configuration.
const (
	maxTail    = 16 << 10
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
