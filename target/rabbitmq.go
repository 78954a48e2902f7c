package target

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// rabbitmq is RabbitMQ. It keeps what it read of its files in a cache of the
// Erlang VM's. Clearing that always says ok, and if the files are bad then
// every new handshake fails; so the node itself reads them and tries the pair,
// as the user that it runs as, before the cache is cleared.
//
// Each run of rabbitmqctl starts a VM of its own and costs about a second of
// CPU, so one run does all that a verb needs.
func rabbitmq() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetRabbitMQ,
			Title:             "RabbitMQ",
			Layout:            LayoutSymlink,
			Control:           "program (rabbitmqctl), arguments (-n NODE), runAs (rabbitmq)",
			Reload:            "rabbitmqctl eval ssl:clear_pem_cache()",
			Word:              "none: clear_pem_cache says ok whatever happens",
			Owner:             "readable by rabbitmq",
			Health:            "rabbitmqctl await_startup and no partitions",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               Never,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "rabbitmqctl eval, by peer_cert_issuer: AMQP connections of this node",
			Validates:         No,
			BrokenPair:        "it says ok, and every new handshake fails: so the reload has it try the files first, and refuses. What is not in its cache, and a bad CA file, it reads at the next handshake all the same",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.AMQP,
			Measured:          "3.10.8, Erlang 25",
			Note: "Without a reload it takes files by itself within 120 s. " +
				"It speaks TLS 1.1 unless ssl_options.versions says otherwise: write tlsv1.3 and tlsv1.2 there, or minVersion 1.2 is never proven. " +
				"ssl_options.depth is 10 unless set; with Erlang older than 25 it is 1: set 2 before a root is replaced.",
		},
		contact: contactRabbit,
		reload:  reloadRabbit,
		health:  healthOfRabbit,
		says:    rabbitSays,

		closeSessions: closeRabbitSessions,
	}
}

func contactRabbit(ctx context.Context, host Host, t Target) (Contact, error) {
	node, err := t.askRabbit(ctx, host, "")
	if err != nil {
		return Contact{}, err
	}
	if err := t.listensWith(node.Listeners); err != nil {
		return Contact{}, err
	}
	return Contact{Product: "rabbitmq", Version: node.Version}, nil
}

func reloadRabbit(ctx context.Context, host Host, t Target, _ Change) (Loaded, error) {
	node, err := t.askRabbit(ctx, host, rabbitTry+rabbitClear, "bad => Bad")
	if err != nil {
		return Loaded{}, err
	}
	if len(node.Bad) > 0 {
		var bad []string
		for _, one := range node.Bad {
			bad = append(bad, one[0]+": "+one[1])
		}
		slices.Sort(bad)
		return Loaded{}, fault.New(fault.Invalid, "RabbitMQ %s can't use its files, and was not told to: %s", t.Name, strings.Join(slices.Compact(bad), ", ")).
			WithRemedy("mend them within two minutes, after which it reads them by itself")
	}
	if err := t.listensWith(node.Listeners); err != nil {
		return Loaded{}, err
	}
	return Loaded{Level: fleet.Loaded, Output: "it has read and tried the files, and cleared its cache"}, nil
}

func healthOfRabbit(ctx context.Context, host Host, t Target, _ probe.Spec) error {
	if t.Control == nil {
		return nil
	}
	node, err := t.askRabbit(ctx, host, rabbitWell, "apart => Apart", "alarms => Alarms")
	switch {
	case err != nil:
		return err
	case len(node.Apart) > 0:
		return fmt.Errorf("a partition keeps it from %s", strings.Join(node.Apart, ", "))
	case len(node.Alarms) > 0:
		return fmt.Errorf("it has an alarm: %s", strings.Join(node.Alarms, ", "))
	}
	return nil
}

// rabbitSays is what the node has in its cache for its next handshake.
func rabbitSays(ctx context.Context, host Host, t Target) (string, error) {
	node, err := t.askRabbit(ctx, host, rabbitCached, "held => Held")
	if err != nil || len(node.Held) == 0 {
		return "", err
	}
	return "cached leaf " + strings.ToLower(strings.Join(node.Held, ", ")), nil
}

// listensWith says whether a TLS listener has files of this target's directory.
func (t Target) listensWith(listeners []rabbitListener) error {
	var others []string
	for _, l := range listeners {
		if l.certfile != "" && t.follows(l.certfile) || l.ca != "" && t.follows(l.ca) {
			return nil
		}
		others = append(others, fmt.Sprintf("%s on port %d with certfile %q and cacertfile %q", l.protocol, l.port, l.certfile, l.ca))
	}
	if len(others) == 0 {
		others = []string{"none with TLS"}
	}
	return fault.New(fault.Invalid, "no listener of RabbitMQ %s uses a file of %s; it has %s", t.Name, t.File(""), strings.Join(others[:min(len(others), 5)], ", ")).
		WithRemedy("write ssl_options.certfile = %s, ssl_options.keyfile = %s and ssl_options.cacertfile = %s, and restart it",
			t.File("chain.pem"), t.File("key.pem"), t.File("bundle.pem"))
}
