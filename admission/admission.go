// Package admission decides whose request a busy server carries out first, and
// when the others are to come back: what expires within a tenth of its life
// first, then first issuance, then renewals.
//
// As long as there is room nothing is asked and nothing waits. Then requests
// wait in a room of bounded size, for a bounded time, in the order of their
// urgency. Who finds no place there, or loses it to someone more urgent, is
// told when to come back: each at a moment of his own, as fast as the server was
// seen to work, so that a storm becomes a queue of which most is not here. That
// moment is never later than half of what is left of the certificate.
package admission

import (
	"fmt"
	"time"
)

// Class is how urgent a request is; lower goes first.
type Class int

// The classes.
const (
	Expiring Class = iota // what is in use ends within a tenth of its life, or has ended
	First                 // there is nothing in use yet
	Renewal
)

const classes = 3

func (c Class) String() string { return [...]string{"expiring", "first", "renewal"}[c] }

// Ask is one request: who asks, and the certificate that it is to replace.
type Ask struct {
	IssuedAt, NotAfter time.Time // zero: there is none
}

// Class is how urgent the request is now.
func (a Ask) Class(now time.Time) Class {
	switch {
	case a.NotAfter.IsZero():
		return First
	case a.NotAfter.Sub(now) <= a.NotAfter.Sub(a.IssuedAt)/10:
		return Expiring
	}
	return Renewal
}

// Limits of a server.
type Limits struct {
	AtOnce   int           // requests carried out at once
	Waiting  int           // requests that wait
	Caller   int           // of both, requests of one caller
	Patience time.Duration // how long one waits here at most
	Rate     float64       // requests a second that are thought possible until some have waited
}

// Refusal is why a request is not carried out now, and when it may be.
type Refusal struct {
	Rule  string
	After time.Duration
}

func (l Limits) full() string {
	return fmt.Sprintf("%d requests are under way, and as many more urgent ones wait as get their turn within %s", l.AtOnce, l.Patience)
}

func (l Limits) tooLong() string {
	return fmt.Sprintf("more urgent requests came before it for %s", l.Patience)
}

func (l Limits) tooMany() string {
	return fmt.Sprintf("an agent may have %d requests under way", l.Caller)
}
