// Package agent is Rotunda's process on a host. It enrols with a token, keeps
// an identity of its own, follows the state that the server desires of it,
// carries out the rotations of the host's placements and reports what the host
// shows.
//
// The agent needs no server to go on: what it was last told lies on its disk.
// It obeys little: agent.yaml says which directories, users and commands the
// server may name. And it is a witness: it remembers the newest checkpoint of
// the audit log and raises an alarm when the log was rewritten.
package agent
