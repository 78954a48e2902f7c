package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
)

// rig lets the servers that tests start run under the bench: what a test would
// fail by ends the measurement of that kind.
type rig struct {
	testing.TB // nil: only what is below is ever called
	ctx        context.Context
	err        error
	cleanups   []func()
}

// onRig runs work with servers of its own, which are gone when it returns.
func onRig(ctx context.Context, work func(*rig) error) error {
	r := &rig{ctx: ctx}
	ended := make(chan error)
	go func() {
		err := errors.New("gave up") // unless work returns
		defer func() {
			for i := len(r.cleanups) - 1; i >= 0; i-- {
				r.cleanups[i]()
			}
			ended <- errors.Join(r.err, err)
		}()
		err = work(r)
	}()
	return <-ended
}

func (r *rig) Helper()                  {}
func (r *rig) Name() string             { return "bench" }
func (r *rig) Context() context.Context { return r.ctx }
func (r *rig) Cleanup(f func())         { r.cleanups = append(r.cleanups, f) }
func (r *rig) Logf(string, ...any)      {}
func (r *rig) Log(...any)               {}
func (r *rig) Output() io.Writer        { return io.Discard }
func (r *rig) Failed() bool             { return r.err != nil }

func (r *rig) Errorf(format string, args ...any) {
	r.err = errors.Join(r.err, fmt.Errorf(format, args...))
}
func (r *rig) Error(args ...any) { r.err = errors.Join(r.err, errors.New(fmt.Sprint(args...))) }

func (r *rig) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *rig) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

func (r *rig) TempDir() string {
	dir, err := os.MkdirTemp("", "rotunda-bench-")
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = os.RemoveAll(dir) }) // it lies in the system's temporary directory
	return dir
}
