package tell_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/demo/tell"
)

func TestWordsAndAnswers(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	answer := func(word string) (string, error) {
		if word == "sing" {
			return "", errors.New("it can\nnot")
		}
		return "did " + word, nil
	}
	server, err := tell.Listen(socket, answer)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tell.Say(t.Context(), socket, "reload"); err != nil || got != "did reload" {
		t.Errorf("reload: %q, %v", got, err)
	}
	if got, err := tell.Say(t.Context(), socket, "sing"); err == nil || !strings.Contains(err.Error(), "it can not") {
		t.Errorf("sing: %q, %v; want the refusal on one line", got, err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tell.Say(t.Context(), socket, "reload"); err == nil {
		t.Error("a server that was closed answered")
	}
}

// TestTakesOverAfterACrash shows that a socket that a killed process left
// behind does not stop the next one.
func TestTakesOverAfterACrash(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	echo := func(word string) (string, error) { return word, nil }
	first, err := tell.Listen(socket, echo)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := tell.Listen(socket, echo)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if got, err := tell.Say(t.Context(), socket, "hello"); err != nil || got != "hello" {
		t.Errorf("hello: %q, %v", got, err)
	}
}

func TestGivesUpWithItsContext(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	release := make(chan struct{})
	server, err := tell.Listen(socket, func(string) (string, error) { <-release; return "", nil })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { close(release); server.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := tell.Say(ctx, socket, "hang"); err == nil {
		t.Error("a server that hangs answered")
	}
}
