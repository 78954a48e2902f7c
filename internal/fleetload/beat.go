package fleetload

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/pki"
)

// beats says again and again that the agent is there, as a real one does, until
// its stream has ended: a fleet at rest costs the server that, too.
func (a *Agent) beats(ctx context.Context) {
	beat := time.NewTicker(api.BeatEvery + rand.N(api.BeatEvery/4))
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
		case <-a.listening:
			return
		case <-ctx.Done():
			return
		}
		if err := a.say(a.beat()); err != nil {
			return // the listener has the reason
		}
	}
}

func (a *Agent) beat() *api.AgentReport {
	told := a.newest.Load()
	report := &api.AgentReport{AgentTime: timestamppb.Now(), Checkpoint: told.Checkpoint, DesiredSeq: told.Seq, Epoch: told.Epoch}
	if anchors, err := pki.ParseBundleDER(told.Anchors); err == nil {
		report.AnchorsDigest = anchors.Digest().String()
	}
	return report
}

// say sends a report; two at once are sent one after the other.
func (a *Agent) say(report *api.AgentReport) error {
	a.saying.Lock()
	defer a.saying.Unlock()
	return a.stream.Send(report)
}
