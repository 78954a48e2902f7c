// Package loopback reserves addresses of this machine for servers that a test,
// a benchmark or the demo is about to start.
//
// A port that the kernel gives to a listener on port 0 is free only until that
// listener is closed: it lies where the kernel also finds ports for outgoing
// connections, and any of them may have it before the server does. These ports
// lie below that range, and a lock file keeps other processes that use this
// package from choosing the same one. The lock ends with the process, so a
// server may be stopped and started on its port as often as a test likes.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Ports from first up to, not including, end: above what services are usually
// configured with, below Linux's default range of ephemeral ports.
const (
	first = 15000
	end   = 32000
)

// Reserve finds a port of 127.0.0.1 that nobody listens on and that no other
// caller has or gets while this process lives. It returns host:port.
func Reserve() (string, error) {
	dir := filepath.Join(os.TempDir(), "loopback-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("reserve a loopback port: %w", err)
	}
	for range end - first {
		port := first + rand.IntN(end-first)
		locked, err := lock(filepath.Join(dir, strconv.Itoa(port)))
		if err != nil {
			return "", fmt.Errorf("reserve a loopback port: %w", err)
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if locked && silent(address) {
			return address, nil
		}
	}
	return "", errors.New("reserve a loopback port: none is free")
}

// lock takes the lock file for the rest of the process's life: its descriptor
// is never closed, and not inherited by children. A second lock of the same
// file fails within one process, too.
func lock(path string) (bool, error) {
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return true, nil
	}
	return false, syscall.Close(fd)
}

// silent tells whether a listener could be opened on the address.
func silent(address string) bool {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
