package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Status is what the agent says of itself on its socket. It holds no secret.
type Status struct {
	Agent  string `json:"agent"`
	Region string `json:"region,omitempty"` // as the control plane said last
	// Connected says whether a stream is open to Server; if not, that is the one
	// that is tried. Since when, and why this one.
	Connected bool           `json:"connected"`
	Server    string         `json:"server"`
	Since     time.Time      `json:"since"`
	Why       string         `json:"why"`
	Servers   []ServerStatus `json:"servers"` // the most wanted first
	Returns   uint64         `json:"returns"` // to a nearer server, since the start
	// Witnesses is who cosigned the audit log, where agent.yaml demands it.
	Witnesses *WitnessesStatus `json:"witnesses,omitempty"`
	Alarms    string           `json:"alarms,omitempty"`
}

// WitnessesStatus is how far witnesses outside have cosigned the audit log, in
// entries.
type WitnessesStatus struct {
	Required int    `json:"required"` // cosignatures
	Shown    uint64 `json:"shown"`    // by servers: the newest checkpoint
	Cosigned uint64 `json:"cosigned"` // of which as many as are required have
	// The checkpoint that is awaited with cosignatures, since when, and whether
	// that is an alarm. 0: none is.
	Awaited   uint64          `json:"awaited,omitempty"`
	Since     time.Time       `json:"since,omitzero"`
	Overdue   bool            `json:"overdue,omitempty"`
	Witnesses []WitnessStatus `json:"witnesses"`
}

// WitnessStatus is one witness that agent.yaml names.
type WitnessStatus struct {
	Name     string `json:"name"`
	Key      string `json:"key"`
	Cosigned uint64 `json:"cosigned"` // seen since the agent's start
}

// ServerStatus is one server as the agent sees it.
type ServerStatus struct {
	Address string       `json:"address"`
	Region  string       `json:"region,omitempty"`
	From    string       `json:"from"` // agent.yaml, control plane, or both
	Circle  string       `json:"circle"`
	Breaker BreakerState `json:"breaker"`
	// Failures in a row, the last of them in words, and until when it is left
	// alone.
	Failures int       `json:"failures"`
	Problem  string    `json:"problem,omitempty"`
	Rests    time.Time `json:"rests,omitzero"`
	// While the agent is further out: since when it has been well, and when the
	// agent goes back to it if it stays so.
	WellSince time.Time `json:"wellSince,omitzero"`
	Home      time.Time `json:"home,omitzero"`
}

var circleNames = [...]string{"own region", "no region", "elsewhere"}

// status is the choice and all servers, as they are now.
func (s *servers) status(now time.Time) Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := Status{Region: s.region, Server: s.chosen.address, Since: s.chosen.at, Why: s.chosen.why, Returns: s.returns}
	for _, e := range s.list {
		one := ServerStatus{
			Address: e.address, Region: e.region, From: "agent.yaml", Circle: circleNames[e.circle],
			Breaker: e.state(now), Failures: e.failures, Problem: e.why,
		}
		switch {
		case e.written && e.told:
			one.From = "agent.yaml, control plane"
		case e.told:
			one.From = "control plane"
		}
		if e.resting(now) {
			one.Rests = e.rest
		}
		if e.looks > 0 {
			one.WellSince, one.Home = e.wellSince, e.wellSince.Add(e.wait)
		}
		status.Servers = append(status.Servers, one)
	}
	return status
}

// status is what the agent says of itself.
func (s *syncer) status() Status {
	status := s.servers.status(s.now())
	status.Agent, status.Alarms = s.ids.current.Load().AgentID, s.alarms.text()
	if s.witness.demand != nil {
		status.Witnesses = s.witness.demand.status(s.witness.seen.Size())
	}
	if link := s.link.Load(); link != nil {
		status.Connected, status.Server = true, link.server
	}
	return status
}

// AskStatus asks the agent on this host, through its socket, how it stands.
func AskStatus(ctx context.Context, socket string) (Status, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return Status{}, fault.Wrap(fault.Unavailable, err, "ask the agent on this host").
			WithRemedy("start rotunda agent, or name its socket with --socket")
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends the read
	defer stop()
	if err := json.NewEncoder(conn).Encode(question{Status: true}); err != nil {
		return Status{}, fmt.Errorf("ask the agent: %w", err)
	}
	var status Status
	if err := json.NewDecoder(conn).Decode(&status); err != nil {
		return Status{}, fmt.Errorf("ask the agent: %w", err)
	}
	if status.Agent == "" {
		return Status{}, fault.New(fault.Invalid, "the agent on this host is of an older version, which does not say how it stands").
			WithRemedy("start it again with this version")
	}
	return status, nil
}
