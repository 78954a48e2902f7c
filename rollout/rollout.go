// Package rollout plans a coordinated change over many placements, such as the
// renewal of a whole service: waves, pace, windows, gates, and the reason for
// all that it does not do.
//
// It is pure: facts and a time in, decisions and reasons out. The control
// plane and the simulator run the same code.
package rollout
