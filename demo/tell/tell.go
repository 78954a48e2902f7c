// Package tell is how the demo's processes are spoken to: one word in, one
// line back, over a unix socket that only their user can reach.
//
// It is the control path that does not need the TLS being rotated: the little
// server is told to reload, and to lie, over it.
package tell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// patience is how long one exchange may take.
const patience = 30 * time.Second

// Server answers words until it is closed.
type Server struct {
	listener net.Listener
	answer   func(word string) (string, error)
	busy     sync.WaitGroup
}

// Listen makes the socket at path and answers each word that comes in with
// what answer returns for it: a line, or an error whose text the other side
// gets. A socket that an earlier process left there is replaced.
func Listen(path string, answer func(word string) (string, error)) (*Server, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("clear the way for the control socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	s := &Server{listener: listener, answer: answer}
	s.busy.Go(s.accept)
	return s, nil
}

// Close stops answering, and waits for the answers that are under way.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.busy.Wait()
	return err
}

func (s *Server) accept() {
	for {
		connection, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.busy.Go(func() { s.serve(connection) })
	}
}

func (s *Server) serve(connection net.Conn) {
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(patience))
	word, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return // whoever called is gone
	}
	answer, err := s.answer(strings.TrimSpace(word))
	if err != nil {
		fmt.Fprintf(connection, "no %s\n", oneLine(err.Error()))
		return
	}
	fmt.Fprintf(connection, "ok %s\n", oneLine(answer))
}

// Say sends one word to the process behind the socket, and returns its
// answer, or its refusal as an error.
func Say(ctx context.Context, path, word string) (string, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return "", fmt.Errorf("reach the process: %w", err)
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(patience))
	stop := context.AfterFunc(ctx, func() { _ = connection.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := fmt.Fprintf(connection, "%s\n", word); err != nil {
		return "", fmt.Errorf("say %q: %w", word, err)
	}
	line, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("hear the answer to %q: %w", word, err)
	}
	verdict, text, _ := strings.Cut(strings.TrimSpace(line), " ")
	if verdict != "ok" {
		return "", fmt.Errorf("%s: refused: %s", word, text)
	}
	return text, nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
