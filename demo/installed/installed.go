// Package installed is the servers that the demo picks up where this machine
// has them: Redis, PostgreSQL and nginx, each run as its operators would run
// it, with mutual TLS and its files wherever Rotunda delivers them.
package installed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Server is one of them: where it is to run, and with what.
type Server struct {
	Kind    string // redis, postgres or nginx
	Binary  string // its program
	Listen  string // host:port for its clients, with TLS
	Data    string // directory of its own
	Files   string // directory of its placement
	Account string // user that it runs as; empty: the demo's own
}

// Control is what agent.yaml says of its control path.
type Control struct {
	Kind      string   `json:"kind"`
	Address   string   `json:"address,omitempty"`
	User      string   `json:"user,omitempty"`
	PIDFile   string   `json:"pidFile,omitempty"`
	Program   string   `json:"program,omitempty"`
	Arguments []string `json:"arguments,omitempty"`
}

// kind is how servers of one kind are found, prepared and run.
type kind struct {
	name     string
	patterns []string // of its program's path
	account  string   // that must run it where the demo is root; empty: root may
	prepare  func(Server) error
	command  func(Server) []string
	answers  func(Server) []string // a command that fails until it serves; nil: it does once its port is open
	control  func(Server) Control
}

func kinds() []kind { return []kind{redis(), postgres(), nginx()} }

// Find says what this machine has. Listen, Data and Files are the caller's to
// fill in.
func Find() []Server {
	var found []Server
	for _, k := range kinds() {
		if binary := program(k.patterns); binary != "" {
			s := Server{Kind: k.name, Binary: binary}
			if os.Geteuid() == 0 {
				s.Account = k.account
			}
			found = append(found, s)
		}
	}
	return found
}

// program is the newest of the programs that the patterns find.
func program(patterns []string) string {
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			continue // a pattern of ours; a test reads them all
		}
		slices.Sort(paths)
		for _, path := range slices.Backward(paths) {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path
			}
		}
	}
	return ""
}

func (s Server) kind() (kind, error) {
	for _, k := range kinds() {
		if k.name == s.Kind {
			return k, nil
		}
	}
	return kind{}, fmt.Errorf("the demo runs no %q", s.Kind)
}

// Control is the control path that the server will have.
func (s Server) Control() (Control, error) {
	k, err := s.kind()
	if err != nil {
		return Control{}, err
	}
	c := k.control(s)
	c.Kind = s.Kind
	return c, nil
}

// readyWithin is how long a server may take to answer.
const readyWithin = 30 * time.Second

// Run runs the server until ctx ends, and calls ready once it answers.
func (s Server) Run(ctx context.Context, ready func() error) error {
	k, err := s.kind()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return fmt.Errorf("make the server's directory: %w", err)
	}
	if err := s.own(s.Data); err != nil {
		return err
	}
	if err := k.prepare(s); err != nil {
		return fmt.Errorf("prepare %s: %w", s.Kind, err)
	}
	command, err := s.exec(k.command(s)...)
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.Kind, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	if err := s.await(ctx, k, ended); err != nil {
		_ = command.Process.Kill()
		return err
	}
	if err := ready(); err != nil {
		_ = command.Process.Kill()
		return err
	}
	select {
	case err := <-ended:
		return fmt.Errorf("%s ended by itself: %w", s.Kind, errors.Join(err))
	case <-ctx.Done():
		return stop(command.Process, ended)
	}
}

// exec makes a command that runs as the server's account and ends with the
// demo.
func (s Server) exec(argv ...string) (*exec.Cmd, error) {
	command := exec.Command(argv[0], argv[1:]...)
	command.Dir, command.Stdout, command.Stderr = s.Data, os.Stdout, os.Stderr
	command.SysProcAttr = bound()
	uid, gid, err := s.ids()
	if err == nil && s.Account != "" {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return command, err
}

func (s Server) ids() (uid, gid int, err error) {
	if s.Account == "" {
		return os.Geteuid(), os.Getegid(), nil
	}
	account, err := user.Lookup(s.Account)
	if err != nil {
		return 0, 0, fmt.Errorf("the user that %s runs as: %w", s.Kind, err)
	}
	uid, uerr := strconv.Atoi(account.Uid)
	gid, gerr := strconv.Atoi(account.Gid)
	return uid, gid, errors.Join(uerr, gerr)
}

func (s Server) own(path string) error {
	uid, gid, err := s.ids()
	if err == nil {
		err = os.Chown(path, uid, gid)
	}
	return err
}

// await knocks until the server answers.
func (s Server) await(ctx context.Context, k kind, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	knock := time.NewTicker(20 * time.Millisecond)
	defer knock.Stop()
	for {
		err := s.knock(ctx, k)
		if err == nil {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%s ended before it answered: %w", s.Kind, errors.Join(err))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer at %s: %w", s.Kind, s.Listen, err)
		case <-knock.C:
		}
	}
}

// knock says whether the server answers.
func (s Server) knock(ctx context.Context, k kind) error {
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Listen)
	if err != nil {
		return err
	}
	_ = connection.Close() // nothing was said
	if k.answers == nil {
		return nil
	}
	command, err := s.exec(k.answers(s)...)
	if err != nil {
		return err
	}
	return command.Run()
}

func stop(process *os.Process, ended <-chan error) error {
	_ = process.Signal(syscall.SIGINT) // PostgreSQL's fast shutdown; Redis and nginx end on it, too
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = process.Kill()
		<-ended
	}
	return nil
}

func (s Server) current(file string) string { return filepath.Join(s.Files, "current", file) }

func (s Server) port() string {
	_, port, _ := net.SplitHostPort(s.Listen)
	return port
}
