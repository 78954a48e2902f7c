package control

import "testing"

// Whatever may have been told and was not heard, who follows trust looks again,
// and so does every agent's stream.
func TestWhatWasNotHeardWakesEverybody(t *testing.T) {
	d := found(t)
	trust, stopTrust := d.WatchTrust()
	defer stopTrust()
	agent, stopAgent := d.WatchAgent("a")
	defer stopAgent()
	d.watchers.heard("")
	for who, wake := range map[string]<-chan struct{}{"trust": trust, "an agent": agent} {
		select {
		case <-wake:
		default:
			t.Errorf("who watches %s is not woken", who)
		}
	}
}
