package control

import (
	"context"
	"errors"
	"testing"
	"time"
)

// What takes long is made anew seldom, what does not each time; what failed again.
func TestSeldom(t *testing.T) {
	var s seldom[int]
	n := 0
	ask := func() int {
		t.Helper()
		got, err := s.get(t.Context(), func(context.Context) (int, error) { n++; return n, nil })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if ask() != 1 || ask() != 2 {
		t.Error("what takes no time is kept")
	}
	s.took = seldomFrom
	if got := ask(); got != 2 || s.making != nil {
		t.Errorf("what took long is made anew at once: %d", got)
	}
	s.made = time.Now().Add(-seldomShare * seldomFrom)
	goOn := make(chan struct{})
	got, err := s.get(t.Context(), func(context.Context) (int, error) { <-goOn; n++; return n, nil })
	if got != 2 || err != nil {
		t.Errorf("who asks when it is old got %d, %v", got, err)
	}
	making := s.making
	close(goOn)
	<-making
	if got := ask(); got != 4 {
		t.Errorf("after it was made: %d", got)
	}
	if _, err := s.get(t.Context(), func(context.Context) (int, error) { return 0, errors.New("away") }); err == nil {
		t.Error("an error is kept quiet")
	}
	if got := ask(); got != 5 {
		t.Errorf("after an error: %d", got)
	}

	// Who does not wait is given what was made before, and disturbs nobody.
	begun := make(chan struct{})
	goOn = make(chan struct{})
	left, leave := context.WithCancel(t.Context())
	go func() {
		<-begun
		leave()
	}()
	got, err = s.get(left, func(ctx context.Context) (int, error) {
		close(begun)
		<-goOn
		return 7, ctx.Err()
	})
	if got != 5 || err != nil {
		t.Errorf("who left got %d, %v", got, err)
	}
	later := s.ask(t.Context(), nil)
	close(goOn)
	<-later
	if s.value != 7 {
		t.Errorf("what was begun for who left is %d", s.value)
	}
}

// What is being made ends with its owner, who waits for that; then nothing is made.
func TestSeldomIsClosed(t *testing.T) {
	var s seldom[int]
	s.close()
	if _, err := s.get(t.Context(), func(context.Context) (int, error) { return 1, nil }); err == nil {
		t.Error("it is made after the end")
	}

	var busy seldom[int]
	left, leave := context.WithCancel(t.Context())
	ended := false
	_, err := busy.get(left, func(ctx context.Context) (int, error) {
		leave()
		<-ctx.Done()
		ended = true
		return 0, ctx.Err()
	})
	if err == nil {
		t.Error("who left was given something")
	}
	busy.close()
	if !ended {
		t.Error("it goes on")
	}
	if _, err := busy.get(t.Context(), func(context.Context) (int, error) { return 1, nil }); err == nil {
		t.Error("it is made after the end")
	}
}
