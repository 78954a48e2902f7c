package lab

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Bell is how a named command of agent.yaml, a process of its own, has the
// test restart a server that is the test's child.
type Bell struct {
	path     string
	listener net.Listener
}

// BellArgument makes the test's own binary ring a bell.
const BellArgument = "interop-ring"

// Hang hangs a bell; each ring does this once. The ring is answered when that
// is over.
func Hang(path string, do func() error) (*Bell, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // taken down
			}
			answer := "ok"
			if err := do(); err != nil {
				answer = err.Error()
			}
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	return &Bell{path, listener}, nil
}

// Command is the argument vector that rings.
func (b *Bell) Command() ([]string, error) {
	self, err := os.Executable()
	return []string{self, BellArgument, b.path}, err
}

// Close takes the bell down.
func (b *Bell) Close() error { return b.listener.Close() }

// Ring is what that command does.
func Ring(arguments []string) error {
	if len(arguments) != 1 {
		return fmt.Errorf("wanted the bell's path, got %q", arguments)
	}
	conn, err := net.DialTimeout("unix", arguments[0], time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if string(answer) != "ok" {
		return fmt.Errorf("restart: %s", answer)
	}
	return nil
}
