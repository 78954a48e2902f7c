// Package command runs programs that a process's own configuration names: by
// argv, never by a shell string from elsewhere, as a user, and killed with all
// that they started when their time is over.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Command is a named command, ready to be run.
type Command struct {
	Name    string
	File    string // the configuration that names it
	Argv    []string
	User    string // empty: this process's own
	Timeout time.Duration
}

// Run runs the command with an input, nil for none, and returns the end of what
// it printed. It is killed with all that it started at its time limit, or when
// ctx ends.
func (c Command) Run(ctx context.Context, input io.Reader) (string, error) {
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	output, err := Program(limited, c.User, input, c.Argv...)
	output = output[max(0, len(output)-MaxOutput):]
	switch {
	case err == nil:
		return output, nil
	case ctx.Err() != nil:
		return output, fmt.Errorf("command %s: %w", c.Name, ctx.Err())
	case limited.Err() != nil:
		return output, fmt.Errorf("command %s: killed after %s, its time limit", c.Name, c.Timeout)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return output, fault.Wrap(fault.Invalid, err, "command %s", c.Name).WithRemedy("mend its argv in %s", c.File)
	case fault.CodeOf(err) == fault.Invalid:
		return output, fault.Wrap(fault.Invalid, err, "command %s", c.Name).WithRemedy("mend its user in %s", c.File)
	}
	return output, fmt.Errorf("command %s: %w", c.Name, err)
}

// Exited says whether an error of Run is that the command ended by itself with a
// status that is not 0.
func Exited(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.Exited()
}

// Program runs a program as a user, this process's own where that is empty, and
// returns the end of what it printed. When ctx ends, it and all that it started
// are killed.
func Program(ctx context.Context, account string, input io.Reader, argv ...string) (string, error) {
	attributes, environment, err := runAs(account)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "run %s as %s", argv[0], account)
	}
	output := new(tail)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", environment, attributes
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, output, output
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for what left the group and keeps the pipe
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil // it ended well, and left a child that keeps the pipe
	}
	return output.String(), err
}

// runAs is how a process is started as a user: in a group of its own, with
// that user's groups and none of this process's environment.
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
