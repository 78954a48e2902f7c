// Package greeter is a small TLS server that can be told to lie.
//
// It loads its certificate when it starts and again when it is told to
// reload, as most servers do. Told to lie, it goes on saying yes to every
// reload and keeps serving the certificate that it had: what PostgreSQL does
// with a broken pair, and the reason why a reload's own answer is no proof.
package greeter

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// idle is how long a connection may say nothing.
const idle = time.Minute

// Server greets whoever sends it a line.
type Server struct {
	directory string // of the certificate; its current/ is read
	listener  net.Listener
	serving   atomic.Pointer[tls.Certificate]
	lying     atomic.Bool

	mu          sync.Mutex
	connections map[net.Conn]struct{}
	busy        sync.WaitGroup
}

// Listen loads the certificate from directory/current and serves on address.
func Listen(address, directory string) (*Server, error) {
	s := &Server{directory: directory, connections: make(map[net.Conn]struct{})}
	if err := s.load(); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s.listener = tls.NewListener(listener, &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.serving.Load(), nil },
	})
	s.busy.Go(s.accept)
	return s, nil
}

// Address is where the server listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Close ends the server and all its connections.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for connection := range s.connections {
		_ = connection.Close()
	}
	s.mu.Unlock()
	s.busy.Wait()
	return err
}

// Answer obeys one word: reload, lie, or be-honest.
func (s *Server) Answer(word string) (string, error) {
	switch word {
	case "reload":
		if s.lying.Load() {
			return "reloaded", nil // it is not
		}
		if err := s.load(); err != nil {
			return "", err
		}
		return "reloaded", nil
	case "lie":
		s.lying.Store(true)
		return "from now on a reload is a lie", nil
	case "be-honest":
		s.lying.Store(false)
		return "from now on a reload is a reload", nil
	}
	return "", fmt.Errorf("the greeter knows reload, lie and be-honest, not %q", word)
}

// load reads certificate and key. It follows the link once, so that both are
// of one revision.
func (s *Server) load() error {
	revision, err := filepath.EvalSymlinks(filepath.Join(s.directory, "current"))
	if err != nil {
		return fmt.Errorf("find the current revision: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(revision, "chain.pem"), filepath.Join(revision, "key.pem"))
	if err != nil {
		return fmt.Errorf("load the certificate: %w", err)
	}
	s.serving.Store(&pair)
	return nil
}

func (s *Server) accept() {
	for {
		connection, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors: what else
			continue
		}
		s.mu.Lock()
		s.connections[connection] = struct{}{}
		s.mu.Unlock()
		s.busy.Go(func() { s.greet(connection) })
	}
}

func (s *Server) greet(connection net.Conn) {
	defer func() {
		_ = connection.Close()
		s.mu.Lock()
		delete(s.connections, connection)
		s.mu.Unlock()
	}()
	reader := bufio.NewReaderSize(connection, 256)
	for {
		_ = connection.SetDeadline(time.Now().Add(idle))
		name, err := reader.ReadSlice('\n')
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(connection, "hello %s", name); err != nil {
			return
		}
	}
}
