package reconcile

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/command"
)

// gateWithin is how long a webhook may take to answer.
const gateWithin = 10 * time.Second

// Gates asks gates outside: webhooks, and commands that rotunda.yaml names.
type Gates struct {
	Client   *http.Client
	Commands map[string]command.Command

	group    sync.WaitGroup
	mu       sync.Mutex
	underWay map[gateOf]bool
}

type gateOf struct {
	rollout string
	wave    int
	gate    string
}

// Ask asks gates, all at once, and records what each says when it does. One that
// does not answer in time refuses; the rollout asks it again after a while. One
// that is being asked is not asked a second time.
func (g *Gates) Ask(ctx context.Context, c *control.Control, asks []control.GateAsk, log *slog.Logger) {
	for _, ask := range asks {
		of := gateOf{ask.Rollout, ask.Wave, ask.Gate}
		if !g.enter(of) {
			continue
		}
		g.group.Go(func() {
			defer g.leave(of)
			passed, words := g.answer(ctx, ask)
			if ctx.Err() != nil {
				return // the server stops: that is no answer
			}
			_, err := c.AnswerRolloutGate(ctx, control.Caller{Kind: control.Server}, &api.AnswerRolloutGateRequest{
				Rollout: ask.Rollout, Wave: int32(ask.Wave), Gate: ask.Gate, Passed: passed, Words: strings.ToValidUTF8(words, ""),
			})
			if err != nil && ctx.Err() == nil {
				log.Error("record what a gate said", "rollout", ask.Name, "gate", ask.Gate, "error", err)
			}
		})
	}
}

// Wait waits for all that are being asked.
func (g *Gates) Wait() { g.group.Wait() }

func (g *Gates) enter(of gateOf) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.underWay[of] {
		return false
	}
	if g.underWay == nil {
		g.underWay = map[gateOf]bool{}
	}
	g.underWay[of] = true
	return true
}

func (g *Gates) leave(of gateOf) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.underWay, of)
}

// answer asks one gate {"rollout", "id", "wave", "gate", "facts"} as JSON.
func (g *Gates) answer(ctx context.Context, ask control.GateAsk) (passed bool, words string) {
	question, err := json.Marshal(map[string]any{
		"rollout": ask.Name, "id": ask.Rollout, "wave": ask.Wave, "gate": ask.Gate, "facts": json.RawMessage(ask.Facts),
	})
	switch {
	case err != nil:
		return false, err.Error()
	case ask.Command != "":
		return g.run(ctx, ask.Command, question)
	}
	ctx, cancel := context.WithTimeout(ctx, gateWithin)
	defer cancel()
	status, words, err := postJSON(ctx, g.Client, ask.Webhook, question, nil)
	if err != nil {
		return false, fmt.Sprintf("the webhook can't be asked: %v", err)
	}
	return status/100 == 2, words
}

// run runs a named command with the question as its input. Exit status 0 passes;
// the last line that it prints is its words.
func (g *Gates) run(ctx context.Context, name string, question []byte) (passed bool, words string) {
	named, known := g.Commands[name]
	if !known {
		return false, fmt.Sprintf("this server has no command %s: name it under commands in rotunda.yaml", name)
	}
	output, err := named.Run(ctx, bytes.NewReader(question))
	last := lastLine(output)
	switch {
	case err == nil:
		return true, cmp.Or(last, "it ended with status 0")
	case last == "" || !command.Exited(err):
		return false, strings.TrimSuffix(fmt.Sprintf("%v: %s", err, last), ": ")
	}
	return false, last
}

func lastLine(output string) string {
	output = strings.TrimRight(output, " \t\r\n")
	return strings.TrimSpace(output[strings.LastIndexByte(output, '\n')+1:])
}
