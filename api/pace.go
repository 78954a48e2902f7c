package api

import "time"

// The pace of an agent's connection. The agent keeps to it, and the server reckons
// with it; what stands in for agents under load keeps to it, too.
const (
	// BeatEvery is the time between messages that only say "still here", and up to
	// a quarter of it more.
	BeatEvery = 2 * time.Minute

	// FullEvery is the time between messages with all placements, and up to a quarter
	// of it more.
	FullEvery = 10 * time.Minute

	// PingAfter is after how much silence of the server an agent asks the connection
	// for a sign of life, and PingTimeout how long it waits for one. That finds a
	// process that stands still, or a proxy with nobody behind it, and keeps proxies
	// from taking the connection for idle: many do after a minute, some after 50 s. Of
	// a host that is gone the kernels hear sooner, by keepalives of their own.
	PingAfter   = 45 * time.Second
	PingTimeout = 10 * time.Second

	// SilentAfter is after how much silence of an agent, that should have said or
	// asked something twice, the server asks for a sign of life.
	SilentAfter = 3 * time.Minute
)
