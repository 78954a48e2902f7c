// Package fault holds the few kinds of failure that Rotunda tells apart.
//
// An error that an operator will read names the thing, the rule that it broke
// and the remedy. Everything else is wrapped with %w as usual and counts as
// Internal when it reaches an edge.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Code is a kind of failure. One table in server maps codes to the wire.
type Code string

// The codes. An error without one is Internal.
const (
	Invalid     Code = "invalid"     // the input is wrong and will stay wrong
	NotFound    Code = "not_found"   // the thing named does not exist
	Conflict    Code = "conflict"    // the input does not fit what is recorded
	Forbidden   Code = "forbidden"   // the caller may not, or policy refuses
	Unavailable Code = "unavailable" // try again later
	Internal    Code = "internal"    // a defect or a broken store; details stay in the log
)

// Error is a failure with a code, and a remedy where there is one.
type Error struct {
	Code   Code
	What   string // the thing and the rule
	Remedy string // what to do about it; may be empty
	Err    error  // the cause; may be nil

	// After is how long to leave the one who answered so alone; zero: as long
	// as the caller likes.
	After time.Duration
}

func (e *Error) Error() string {
	text := e.What
	if e.Err != nil {
		text = fmt.Sprintf("%s: %v", text, e.Err)
	}
	if e.Remedy != "" {
		text += " (" + e.Remedy + ")"
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the code; format and args say the thing and the rule.
func New(code Code, format string, args ...any) *Error {
	cause := fmt.Errorf(format, args...)
	return &Error{Code: code, What: cause.Error()}
}

// Wrap returns an error of the code caused by err.
func Wrap(code Code, err error, format string, args ...any) *Error {
	return &Error{Code: code, What: fmt.Sprintf(format, args...), Err: err}
}

// WithRemedy returns a copy of the error that also says what to do about it.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	copied := *e
	copied.Remedy = fmt.Sprintf(format, args...)
	return &copied
}

// WithAfter returns a copy of the error that also says when to come back.
func (e *Error) WithAfter(after time.Duration) *Error {
	copied := *e
	copied.After = after
	return &copied
}

// AfterOf is how long err asks to be left alone; zero: it does not.
func AfterOf(err error) time.Duration {
	for e, ok := errors.AsType[*Error](err); ok; e, ok = errors.AsType[*Error](e.Err) {
		if e.After > 0 {
			return e.After
		}
	}
	return 0
}

// Public is what a caller may read of err. Of an internal failure that is only
// that there was one. Of an unavailable store or the like it is what and the
// remedy: the cause is for this server's log. All others speak of what the
// caller sent.
func Public(err error) string {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok || e.Code == Internal:
		return "internal error; the server's log has it"
	case e.Code != Unavailable:
		return err.Error()
	case e.Remedy != "":
		return e.What + " (" + e.Remedy + ")"
	}
	return e.What
}

// CodeOf is the code of the outermost Error in err's chain, or Internal.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}
