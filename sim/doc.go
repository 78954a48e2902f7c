// Package sim runs the pure decisions of a whole fleet on a fake clock, with
// messages that are late or lost and a control plane that goes away: months in
// seconds. It holds tests only.
package sim
