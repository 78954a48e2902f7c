package story

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rotunda-pki/rotunda/demo/load"
	"github.com/rotunda-pki/rotunda/demo/operator"
)

// The renewals of a change of trust are spread over reissueOver; the whole of it
// is waited for rootPatience at most.
const (
	reissueOver  = 5 * time.Second
	rootPatience = 2 * time.Minute
)

// RootChange is how one replacement of the root went.
type RootChange struct {
	From    string  `json:"from"`
	To      string  `json:"to"`
	Seconds float64 `json:"seconds"`
	Parties int     `json:"relying_parties"`
	Phases  []Phase `json:"phases"`
	// What the clients saw meanwhile.
	Requests   int64 `json:"requests"`
	Failed     int64 `json:"failed_requests"`
	Reconnects int64 `json:"reconnects"`
	Retries    int64 `json:"retries"`
}

// Phase is one phase of a change: when it was first seen, after the beginning.
type Phase struct {
	Name  string  `json:"phase"`
	After float64 `json:"after_seconds"`
}

// newRoots replaces the trust domain's root twice in a row, as an operator
// does: what the first one leaves behind must be good for the second.
func (d *demo) newRoots(ctx context.Context) error {
	d.load.ExpectRestarts()
	old := filepath.Join(d.rotunda.State, "root")
	for _, name := range []string{"root-2", "root-3"} {
		next := filepath.Join(d.directory, name)
		if err := d.replaceRoot(ctx, filepath.Join(old, "key.pem"), next); err != nil {
			return err
		}
		old = next
	}
	return nil
}

// replaceRoot goes through one change of trust. The operator begins it, renews
// the credentials once all else is renewed, and lets it go on to its end.
func (d *demo) replaceRoot(ctx context.Context, key, next string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, rootPatience, fmt.Errorf("the root was not replaced within %s", rootPatience))
	defer cancel()
	before, start := d.load.Tally(), time.Now()
	begun, err := d.rotunda.ReplaceRoot(ctx, key, next, reissueOver, "the demo shows a new root")
	if err != nil {
		return err
	}
	change := RootChange{From: begun.Old.Root, To: begun.New.Root}
	d.trust.Store(&begun)
	defer d.trust.Store(nil)
	note := func(c operator.Change) {
		d.trust.Store(&c)
		change.Parties = max(change.Parties, len(c.Parties))
		if last := len(change.Phases) - 1; last >= 0 && change.Phases[last].Name == c.Phase {
			return
		}
		change.Phases = append(change.Phases, Phase{c.Phase, seconds(time.Since(start))})
		if !d.screen.Live() {
			d.screen.Say("%5.1fs %-10s %s", time.Since(start).Seconds(), c.Phase, standing(c))
		}
	}
	if err := d.followToDrain(ctx, begun.ID, note); err != nil {
		return err
	}
	if _, err := d.rotunda.Run(ctx, "operator", "renew"); err != nil {
		return err
	}
	if _, err := d.rotunda.Run(ctx, "trust", "advance", begun.ID, "--reason", "the demo goes on to the end"); err != nil {
		return err
	}
	ended := false
	err = d.rotunda.FollowTrust(ctx, begun.ID, func(c operator.Change) (bool, error) {
		note(c)
		ended = c.EndedAt != nil
		return ended, nil
	})
	if err == nil && !ended {
		err = errors.New("rotunda trust status ended before the change did")
	}
	if err != nil {
		return d.whyNot(ctx, err)
	}
	change.Seconds = seconds(time.Since(start))
	if err := d.lookUnder(ctx, filepath.Join(next, "cert.pem")); err != nil {
		return err
	}
	change.count(before, d.load.Tally())
	d.report.Roots = append(d.report.Roots, change)
	d.screen.Say("%s → %s in %.1f s: %d relying parties; %d requests meanwhile, %d failed; all that is served stands under the new root alone",
		change.From, change.To, change.Seconds, change.Parties, change.Requests, change.Failed)
	return nil
}

func (c *RootChange) count(before, after load.Tally) {
	c.Requests, c.Failed = after.Requests-before.Requests, after.Failed-before.Failed
	c.Reconnects, c.Retries = after.Reconnects-before.Reconnects, after.Retries-before.Retries
}

// followToDrain waits until nothing but people's certificates needs the old
// root.
func (d *demo) followToDrain(ctx context.Context, id string, note func(operator.Change)) error {
	err := d.rotunda.FollowTrust(ctx, id, func(c operator.Change) (bool, error) {
		note(c)
		return c.Phase == "drain" || c.Phase == "unbridge", nil
	})
	return d.whyNot(ctx, err)
}

// whyNot says with an error what the change was waiting for.
func (d *demo) whyNot(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	change := d.trust.Load()
	if err == nil || change == nil {
		return err
	}
	for _, wait := range change.Waits {
		err = fmt.Errorf("%w\n  at %s: %s %s", err, change.Phase, wait.Who, wait.Reason)
	}
	return err
}

// lookUnder holds all that is served and delivered against the new root alone.
func (d *demo) lookUnder(ctx context.Context, root string) error {
	content, err := os.ReadFile(root)
	if err != nil {
		return fmt.Errorf("read the new root: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content) {
		return fmt.Errorf("%s holds no certificate", root)
	}
	chains, err := d.chains(ctx)
	if err != nil {
		return err
	}
	for place, chain := range chains {
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		for _, between := range chain[1:] {
			options.Intermediates.AddCert(between)
		}
		if _, err := chain[0].Verify(options); err != nil {
			return fmt.Errorf("%s does not stand under the new root: %w", place, err)
		}
	}
	return nil
}

func seconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Millisecond)) / float64(time.Second)
}
