package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
)

// Rollouts are looked at after each change, at most once in advanceAfter and for
// a fifth of the time, and at least once in advanceAtLeast: windows open and
// soaks end by themselves.
// gateWithin is how long a webhook may take to answer.
const (
	advanceAfter   = 500 * time.Millisecond
	advanceAtLeast = 5 * time.Second
	gateWithin     = 10 * time.Second
)

// Rollouts advances the rollouts until ctx ends. One failed pass is logged, and
// tried again.
func Rollouts(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for {
		_, next := c.Changed()
		began := time.Now()
		_, asks, err := c.AdvanceRollouts(ctx)
		took := time.Since(began)
		if err != nil && ctx.Err() == nil {
			log.Error("advance the rollouts", "error", err)
		}
		AskGates(ctx, c, http.DefaultClient, asks, log)
		if !sleep(ctx, next, advanceAtLeast) || !sleep(ctx, nil, max(advanceAfter, 4*took)) {
			return ctx.Err()
		}
	}
}

// AskGates asks webhooks, all at once, and records what they say. One that does
// not answer in time refuses; the rollout asks again after a while.
func AskGates(ctx context.Context, c *control.Control, client *http.Client, asks []control.GateAsk, log *slog.Logger) {
	var group sync.WaitGroup
	for _, ask := range asks {
		group.Go(func() {
			passed, words := askGate(ctx, client, ask)
			if ctx.Err() != nil {
				return // the server stops: that is no answer
			}
			_, err := c.AnswerRolloutGate(ctx, control.Caller{Kind: control.Server}, &api.AnswerRolloutGateRequest{
				Rollout: ask.Rollout, Wave: int32(ask.Wave), Gate: ask.Gate, Passed: passed, Words: words,
			})
			if err != nil && ctx.Err() == nil {
				log.Error("record what a gate said", "rollout", ask.Name, "gate", ask.Gate, "error", err)
			}
		})
	}
	group.Wait()
}

// askGate posts {"rollout", "id", "wave", "gate"} as JSON. A status of 2xx
// passes; the first line of the answer is its words.
func askGate(ctx context.Context, client *http.Client, ask control.GateAsk) (passed bool, words string) {
	ctx, cancel := context.WithTimeout(ctx, gateWithin)
	defer cancel()
	body, err := json.Marshal(map[string]any{"rollout": ask.Name, "id": ask.Rollout, "wave": ask.Wave, "gate": ask.Gate})
	if err != nil {
		return false, err.Error()
	}
	status, words, err := postJSON(ctx, client, ask.Webhook, body, nil)
	if err != nil {
		return false, fmt.Sprintf("the webhook can't be asked: %v", err)
	}
	return status/100 == 2, words
}
