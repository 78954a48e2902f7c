package story

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/rotunda-pki/rotunda/demo/documents"
	"github.com/rotunda-pki/rotunda/demo/installed"
	"github.com/rotunda-pki/rotunda/demo/load"
	"github.com/rotunda-pki/rotunda/demo/operator"
	"github.com/rotunda-pki/rotunda/demo/tell"
)

// renewals is how many each placement goes through.
const renewals = 10

func (d *demo) enrol(ctx context.Context) error {
	if err := d.prepare(); err != nil {
		return err
	}
	if err := d.startServer(ctx); err != nil {
		return err
	}
	return d.startAgents(ctx)
}

func (d *demo) firstIssuance(ctx context.Context) error {
	documents := []string{"services.yaml", "policy.yaml", "profiles.yaml", "intents.yaml"}
	if len(d.installed) > 0 {
		documents = append(documents, "installed.yaml")
	}
	if err := d.apply(ctx, documents...); err != nil {
		return err
	}
	d.sayInstalled()
	if err := d.startProcesses(ctx); err != nil {
		return err
	}
	// Brisk as they are, hardly all are steady at one moment: one rotation of
	// each that was committed is what counts.
	err := d.fleet.Await(ctx, patience, each(func(p operator.Placement) string {
		switch {
		case p.Failure != nil:
			return "failed at " + p.Failure.Step + ": " + p.Failure.Reason
		case p.Rotations == 0:
			return "is " + p.State
		}
		return ""
	}, 8+len(d.installed)))
	if err != nil {
		return err
	}
	var members []string
	for _, h := range d.hosts {
		members = append(members, h.clients)
	}
	var picked []load.Installed
	for _, s := range d.installed {
		picked = append(picked, load.Installed{Kind: s.Kind, Address: s.Listen, Name: s.name(), Answers: installed.Greeting})
	}
	d.load = load.Start(load.Settings{
		Identity: d.hosts[ordersHost].placement("orders"), Etcd: members, Greeter: d.greeter, Greets: greeterName, Installed: picked,
	})
	d.screen.Say("every certificate is proven by handshakes with the process that serves it; the clients are at work")
	return nil
}

// sayInstalled says what was found on this machine.
func (d *demo) sayInstalled() {
	var found []string
	for _, s := range d.installed {
		found = append(found, fmt.Sprintf("%s (%s) on %s", s.Kind, s.Binary, s.host.name))
	}
	if len(found) == 0 {
		d.screen.Say("no Redis, PostgreSQL or nginx is installed here: without them (make deps installs them)")
		return
	}
	d.screen.Say("picked up on this machine: %s", strings.Join(found, ", "))
}

// tenRenewals waits for ordinary renewals: nothing is asked for.
func (d *demo) tenRenewals(ctx context.Context) error {
	placements, _, err := d.fleet.Placements()
	if err != nil {
		return err
	}
	goal := make(map[string]uint64)
	for _, p := range placements {
		goal[p.ID] = p.Rotations + renewals
	}
	said := uint64(0)
	err = d.fleet.Await(ctx, 5*patience, func(now []operator.Placement) string {
		least := uint64(renewals)
		for _, p := range now {
			least = min(least, renewals-min(renewals, goal[p.ID]-min(goal[p.ID], p.Rotations)))
		}
		if least > said && !d.screen.Live() {
			d.screen.Say("%2d of %d renewals everywhere; %s", least, renewals, d.counts())
		}
		said = max(said, least)
		return each(func(p operator.Placement) string {
			if p.Rotations < goal[p.ID] {
				return fmt.Sprintf("has %d of %d rotations", p.Rotations, goal[p.ID])
			}
			return ""
		}, len(placements))(now)
	})
	if err != nil {
		return err
	}
	d.screen.Say("renewed by the windows of their profile, keys kept; from here on the profile is a calm one")
	d.gaps.Terms = documents.Calm
	return d.apply(ctx, "profiles.yaml")
}

// newKeys asks for all keys to be replaced, and looks for itself whether they
// were. What comes of it is the first that the calm profile is for.
func (d *demo) newKeys(ctx context.Context) error {
	before, err := d.look(ctx)
	if err != nil {
		return err
	}
	if err := d.rotate(ctx, "--all", "--new-key", "--reason", "the demo shows a forced rotation"); err != nil {
		return err
	}
	after, err := d.look(ctx)
	if err != nil {
		return err
	}
	for placement, was := range before {
		if is := after[placement]; is.key == was.key || is.serial == was.serial {
			return fmt.Errorf("%s shows the certificate %s with the same key as before", placement, is.serial)
		}
	}
	d.screen.Say("%d placements, %d new keys, seen by handshakes of the demo's own", len(before), len(after))
	return nil
}

// rotate asks for a rotation and waits until it has come about at each
// placement concerned. A later generation alone may be of a renewal that was
// under way when it was asked for.
func (d *demo) rotate(ctx context.Context, arguments ...string) error {
	placements, _, err := d.fleet.Placements()
	if err != nil {
		return err
	}
	concerned, err := d.rotunda.Rotate(ctx, arguments...)
	if err != nil {
		return err
	}
	was := make(map[string]uint64)
	for _, p := range concerned {
		was[p.ID] = p.Generation
	}
	return d.fleet.Await(ctx, patience, each(func(p operator.Placement) string {
		if generation, concerned := was[p.ID]; concerned && (p.Generation <= generation || p.RotateAt != nil || !p.Steady()) {
			return fmt.Sprintf("is %s at generation %d", p.State, p.Generation)
		}
		return ""
	}, len(placements)))
}

// caughtAtCheck declares a client of etcd that could not accept its next
// certificate, and has etcd rotate: the check on the host must stop it, and
// every member must serve what it served.
func (d *demo) caughtAtCheck(ctx context.Context) error {
	if err := d.apply(ctx, "partner.yaml"); err != nil {
		return err
	}
	err := d.fleet.Await(ctx, patience, some("ledger-trust", "has not got its bundle", operator.Placement.Steady))
	if err != nil {
		return err
	}
	before, err := d.look(ctx)
	if err != nil {
		return err
	}
	if _, err := d.rotunda.Run(ctx, "rotate", "etcd-clients", "--reason", "the demo shows a check that fails"); err != nil {
		return err
	}
	failed, err := d.awaitFailure(ctx, "etcd-clients", "check")
	if err != nil {
		return err
	}
	after, err := d.look(ctx)
	if err != nil {
		return err
	}
	for placement, was := range before {
		if after[placement] != was {
			return fmt.Errorf("%s shows another certificate than before the check", placement)
		}
	}
	d.report.Caught++
	d.screen.Say("caught at check, before anything was touched: %s", failed.Failure.Reason)
	d.screen.Say("all members serve what they served; the ledger takes the new bundle, and the rotation goes on")
	return d.mendPartner(ctx)
}

// mendPartner gives the ledger the domain's bundle, and lets the intent that
// stopped go on.
func (d *demo) mendPartner(ctx context.Context) error {
	d.gaps.LedgerTrusts = "default"
	if err := d.apply(ctx, "partner.yaml"); err != nil {
		return err
	}
	return d.resume(ctx, "etcd-clients", "the ledger trusts the domain's root now")
}

// resume closes an intent's breaker and waits until its placements are all
// steady without a failure.
func (d *demo) resume(ctx context.Context, intent, reason string) error {
	if _, err := d.rotunda.Run(ctx, "resume", intent, "--reason", reason); err != nil {
		return err
	}
	placements, _, err := d.fleet.Placements()
	if err != nil {
		return err
	}
	return d.fleet.Await(ctx, patience, each(func(p operator.Placement) string {
		if !p.Steady() {
			return "is " + p.State + " " + p.Reason
		}
		return ""
	}, len(placements)))
}

// caughtAtProve tells the greeter to lie about its reload, and has it rotate:
// the proof must notice, and the certificate before must be put back. Then the
// greeter is honest again, and the rotation heals.
func (d *demo) caughtAtProve(ctx context.Context) error {
	socket := d.hosts[greeterHost].socket("greeter")
	if _, err := tell.Say(ctx, socket, "lie"); err != nil {
		return err
	}
	before, err := d.look(ctx)
	if err != nil {
		return err
	}
	if _, err := d.rotunda.Run(ctx, "rotate", "greeter", "--reason", "the demo shows a reload that lies"); err != nil {
		return err
	}
	failed, err := d.awaitFailure(ctx, "greeter", "prove")
	if err != nil {
		return err
	}
	d.report.Caught++
	d.screen.Say("caught at prove: %s", failed.Failure.Reason)
	if err := d.seeRestored(ctx, failed, before); err != nil {
		return err
	}
	d.report.Restored++
	d.screen.Say("restored: generation %d is back in place and proven; now the greeter is honest again", failed.Generation)
	if _, err := tell.Say(ctx, socket, "be-honest"); err != nil {
		return err
	}
	if err := d.resume(ctx, "greeter", "the greeter is honest again"); err != nil {
		return err
	}
	after, err := d.look(ctx)
	if err != nil {
		return err
	}
	place := "greeter " + d.hosts[greeterHost].name
	if after[place] == before[place] {
		return errors.New("the greeter is honest again, and still serves the old certificate")
	}
	d.screen.Say("healed: the greeter serves a new certificate")
	return nil
}

// seeRestored checks that the certificate of before lies in the directory and
// is served.
func (d *demo) seeRestored(ctx context.Context, failed operator.Placement, before map[string]sight) error {
	if failed.Restores == 0 {
		return errors.New("no restore was counted")
	}
	h := d.hosts[greeterHost]
	chain, err := onDisk(h.placement("greeter"))
	if err != nil {
		return err
	}
	after, err := d.look(ctx)
	if err != nil {
		return err
	}
	place := "greeter " + h.name
	if after[place] != before[place] || sightOf(chain[0]) != before[place] {
		return errors.New("what is served, what lies in the directory and what was served before are not the same")
	}
	return nil
}

// awaitFailure waits until a placement of the intent has failed at the step;
// where the failure took files away, until they are restored.
func (d *demo) awaitFailure(ctx context.Context, intent, step string) (failed operator.Placement, err error) {
	err = d.fleet.Await(ctx, patience, some(intent, "has not failed at "+step, func(p operator.Placement) bool {
		if p.Failure == nil || p.Failure.Step != step || step == "prove" && !p.Failure.Restored {
			return false
		}
		failed = p
		return true
	}))
	return failed, err
}

// apply fills the templates of the names and has Rotunda hold them.
func (d *demo) apply(ctx context.Context, names ...string) error {
	directory := filepath.Join(d.directory, "documents")
	if err := documents.Write(directory, d.gaps, names...); err != nil {
		return err
	}
	var paths []string
	for _, name := range names {
		paths = append(paths, filepath.Join(directory, name))
	}
	return d.rotunda.Apply(ctx, paths...)
}

// each wants that many placements, and nothing missing of any.
func each(missing func(operator.Placement) string, count int) func([]operator.Placement) string {
	return func(placements []operator.Placement) string {
		var all []string
		for _, p := range placements {
			if what := missing(p); what != "" {
				all = append(all, strings.TrimSpace(fmt.Sprintf("%s of agent %s %s %s", p.Intent, p.Agent, what, p.Reason)))
			}
		}
		if len(placements) < count {
			all = append(all, fmt.Sprintf("there are %d placements, not %d", len(placements), count))
		}
		return strings.Join(all, "; ")
	}
}

// some wants one placement of the intent to be as said.
func some(intent, missing string, found func(operator.Placement) bool) func([]operator.Placement) string {
	return func(placements []operator.Placement) string {
		what := "intent " + intent + " has no placement"
		for _, p := range placements {
			if p.Intent != intent {
				continue
			}
			if found(p) {
				return ""
			}
			what = strings.TrimSpace(fmt.Sprintf("%s %s (it is %s) %s", intent, missing, p.State, p.Reason))
		}
		return what
	}
}
