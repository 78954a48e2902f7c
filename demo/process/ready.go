package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// NotifyVariable names the socket where a process says that it is ready, as
// sd_notify(3) has it.
const NotifyVariable = "NOTIFY_SOCKET"

// readyWithin is how long a process may take to say that it is ready.
const readyWithin = 60 * time.Second

// StartReady starts a process and waits until it says that it is ready, as
// systemd would wait. A process that ends before is an error.
func (f *Family) StartReady(ctx context.Context, name string, environment []string, argv ...string) (*Process, error) {
	path := filepath.Join(f.Logs, name+".ready")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("open the socket where %s says that it is ready: %w", name, err)
	}
	p, err := f.Start(name, append(environment, NotifyVariable+"="+path), argv...)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	ready := make(chan struct{})
	go hear(socket, ready)
	go func() { // what it says later, such as that it stops, is heard too
		<-p.Done()
		_ = socket.Close()
	}()
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	select {
	case <-ready:
		return p, nil
	case <-p.Done():
		return nil, p.Ended()
	case <-timer.C:
		return nil, fmt.Errorf("%s (process %d) did not become ready within %s; the end of %s:\n%s", name, p.PID, readyWithin, p.Log, tail(p.Log, 12))
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hear reads what the process says until it has ended.
func hear(socket *net.UnixConn, ready chan<- struct{}) {
	message := make([]byte, 4096)
	for once := sync.OnceFunc(func() { close(ready) }); ; {
		n, err := socket.Read(message)
		if err != nil {
			return
		}
		for line := range bytes.Lines(message[:n]) {
			if string(bytes.TrimSpace(line)) == "READY=1" {
				once()
			}
		}
	}
}

// Ready tells whoever started this process, and wants to know, that it is
// ready.
func Ready() error {
	path := os.Getenv(NotifyVariable)
	if path == "" {
		return nil
	}
	socket, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("say that this process is ready: %w", err)
	}
	defer socket.Close()
	if _, err := socket.Write([]byte("READY=1")); err != nil {
		return fmt.Errorf("say that this process is ready: %w", err)
	}
	return nil
}
