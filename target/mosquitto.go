package target

import (
	"context"
	"fmt"
	"regexp"
	"syscall"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// mosquitto is Mosquitto.
func mosquitto() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetMosquitto,
			Title:             "Mosquitto",
			Layout:            LayoutSymlink,
			Control:           "pidFile; program (mosquitto) where its version is to be known",
			Reload:            "SIGHUP",
			Word:              "none",
			Owner:             "readable by mosquitto",
			Health:            "answers",
			Leaf:              AtReload,
			KeyType:           AtRestart,
			AnchorAdd:         AtRestart,
			AnchorRemove:      AtRestart,
			CRL:               AtReload,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "restart",
			Validates:         No,
			BrokenPair:        "a key that does not fit: new handshakes fail; files that can not be read: the old pair stays. Only the log tells",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.MQTT,
			Measured:          "2.0.11",
			Note:              "A reload adds a key of another type to the old one: clients that know both are shown the old leaf until a restart.",
		},
		restartCloses: true,
		contact:       contactMosquitto,
		reload:        reloadMosquitto,
	}
}

var mosquittoVersion = regexp.MustCompile(`(?m)^mosquitto version (\S+)`)

// contactMosquitto looks at the process. Its version is known only by a
// program, which says it and ends with an error for having no work.
func contactMosquitto(ctx context.Context, host Host, t Target) (Contact, error) {
	process, err := t.process(ctx, "mosquitto")
	if err != nil {
		return Contact{}, err
	}
	_ = process.Release() // it was only looked at
	contact := Contact{Product: "mosquitto"}
	if t.Control.Program == "" {
		return contact, nil
	}
	output, err := host.Program(ctx, t.Control.RunAs, t.Control.Program, "-h")
	found := mosquittoVersion.FindStringSubmatch(output)
	if found == nil {
		return Contact{}, noMosquitto(ctx, t, output, err)
	}
	contact.Version = found[1]
	return contact, nil
}

func noMosquitto(ctx context.Context, t Target, output string, err error) error {
	if ctx.Err() != nil {
		return fault.Wrap(fault.Unavailable, ctx.Err(), "%s -h of target %s did not end", t.Control.Program, t.Name)
	}
	if err == nil {
		err = fmt.Errorf("it printed %.200q", output)
	}
	return fault.Wrap(fault.Invalid, err, "%s of target %s does not say that it is mosquitto", t.Control.Program, t.Name).
		WithRemedy("write program: /usr/sbin/mosquitto under targets.%s in agent.yaml, or none", t.Name)
}

// reloadMosquitto signals. There is no word on what came of it.
func reloadMosquitto(ctx context.Context, _ Host, t Target, _ Change) (Loaded, error) {
	return Loaded{Level: fleet.Delivered}, t.signal(ctx, syscall.SIGHUP, "mosquitto")
}
