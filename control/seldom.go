package control

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// seldom is a figure of a whole fleet. Where it takes a while it is made anew once
// twenty times as long has passed, so that who asks often costs no more than that,
// and who asks meanwhile is given the one before.
type seldom[T any] struct {
	mu     sync.Mutex
	value  T
	err    error
	made   time.Time
	took   time.Duration
	making chan struct{} // closed when what is being made is there; nil: nothing is
	stop   func()        // ends what is being made
	closed bool          // nothing is made any more
}

const (
	seldomShare = 20
	seldomFrom  = 200 * time.Millisecond // what takes less is made anew each time
	seldomMost  = 5 * time.Minute        // that making may take
)

// get is the figure; the one before it, where it takes long, or is not made before
// ctx ends.
func (s *seldom[T]) get(ctx context.Context, anew func(context.Context) (T, error)) (T, error) {
	if made := s.ask(ctx, anew); made != nil {
		select {
		case <-made:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made.IsZero() {
		return s.value, cmp.Or(ctx.Err(), context.Canceled)
	}
	return s.value, s.err
}

// ask has it made where that is due, and returns what is closed when it is there;
// nil: nobody need wait.
func (s *seldom[T]) ask(ctx context.Context, anew func(context.Context) (T, error)) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	long := !s.made.IsZero() && s.err == nil && s.took >= seldomFrom
	if s.making == nil && !s.closed && !(long && time.Since(s.made) < seldomShare*s.took) {
		s.make(ctx, anew)
	}
	if long {
		return nil
	}
	return s.making
}

// close ends what is being made, and returns when it has ended.
func (s *seldom[T]) close() {
	s.mu.Lock()
	s.closed = true
	making := s.making
	if making != nil {
		s.stop()
	}
	s.mu.Unlock()
	if making != nil {
		<-making
	}
}

func (s *seldom[T]) make(ctx context.Context, anew func(context.Context) (T, error)) {
	making := make(chan struct{})
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), seldomMost)
	s.making, s.stop = making, stop
	go func() {
		defer stop()
		began := time.Now()
		value, err := anew(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err, s.made, s.took = err, time.Now(), time.Since(began); err == nil {
			s.value = value
		}
		s.making = nil
		close(making)
	}()
}
