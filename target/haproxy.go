package target

import (
	"context"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// haproxy is HAProxy. A leaf goes over its runtime API; whatever else differs
// takes a reload, after which the files on the disk are what is in use.
func haproxy() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:   fleet.TargetHAProxy,
			Title:  "HAProxy",
			Layout: LayoutSymlink,
			Control: "address (unix stats socket, level admin) for leaves; pidFile of the master for CAs; " +
				"program haproxy and arguments -f haproxy.cfg (optional) to have the configuration checked before a reload",
			Reload:            "set ssl cert and commit ssl cert for a leaf; SIGUSR2 to the master (or reloadCommand, where there is no pidFile) for a CA or CRL",
			Word:              "show ssl cert: the certificate that new connections get; of CAs it has no word",
			Owner:             "readable by root: the master reads them as the user that it was started as",
			Health:            "answers",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               AtReload,
			Staple:            AtReload,
			ClosesConnections: Yes, // a CA does; a leaf does not
			CloseSessionsBy:   "a reload closes all connections of the old workers in time",
			Validates:         Yes,
			BrokenPair:        "commit ssl cert is refused, or the reload fails and the old worker stays; only the log says why",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Measured:          "2.6.12",
			Note: "A leaf goes over the runtime API and closes nothing; combined.pem is what the bind line has to load. A CA takes a reload, which closes connections: set ssl ca-file lies afterwards. " +
				"A SIGUSR2 that the master gets while it is busy with the last one is lost; the agent waits, looks and sends it again. " +
				"Tickets and session cache must be off for a withdrawal to hold.",
		},
		contact: contactHAProxy,
		reload:  reloadHAProxy,
		says:    haproxySays,
	}
}

func reloadHAProxy(ctx context.Context, host Host, t Target, change Change) (Loaded, error) {
	if change.First || change.Bundle() || change.CRL || change.Staple {
		return reloadHAProxyWhole(ctx, host, t)
	}
	return commitHAProxy(ctx, t)
}

// contactHAProxy looks at the socket, its level, the certificates that are
// loaded, and that the pid file is the master's.
func contactHAProxy(ctx context.Context, _ Host, t Target) (Contact, error) {
	worker, err := t.haproxyWorker(ctx)
	if err != nil {
		return Contact{}, err
	}
	seen := worker.Contact
	if below(seen.Version, 2, 2) {
		return seen, t.tooOld("HAProxy", seen.Version, "2.2", "commit ssl cert and show ssl cert")
	}
	level, err := t.haproxyAsk(ctx, "show cli level")
	if err != nil {
		return seen, err
	}
	if level != "admin" {
		return seen, fault.New(fault.Forbidden, "target %s: the stats socket %s has level %s, and certificates take level admin", t.Name, t.Control.Address, quote(level)).
			WithRemedy("write level admin on its stats socket line in haproxy.cfg, and mode 600")
	}
	if t.placed("combined.pem") {
		if _, err := t.haproxyName(ctx); err != nil {
			return seen, err
		}
	}
	if t.Control.PIDFile == "" && t.ReloadCommand == "" {
		return seen, fault.New(fault.Invalid, "target %s: a CA takes a reload, and agent.yaml names no pidFile of HAProxy's master", t.Name).
			WithRemedy("name it as targets.%s.pidFile, or let the intent name a reloadCommand", t.Name)
	}
	if t.Control.PIDFile == "" {
		return seen, nil
	}
	master, err := t.haproxyMaster(ctx, worker)
	if err != nil {
		return seen, err
	}
	return seen, master.Release()
}

// haproxySays is its own word on the certificate that new connections get.
func haproxySays(ctx context.Context, _ Host, t Target) (string, error) {
	name, err := t.haproxyName(ctx)
	if err != nil {
		return "", err
	}
	shown, err := t.haproxyShow(ctx, name)
	if err != nil {
		return "", err
	}
	return "show ssl cert " + name + ": serial " + shown["Serial"] + ", notAfter " + shown["notAfter"] + ", SHA-1 " + shown[haproxySHA1], nil
}
