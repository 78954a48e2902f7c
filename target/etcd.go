package target

import (
	"fmt"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/probe"
)

// etcd reads certificate and key at each handshake, so a renewal needs no act
// at all, and a pair that does not fit breaks every new connection at once.
// Its CA files it reads at start only.
func etcd() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetEtcd,
			Title:             "etcd",
			Layout:            LayoutSymlink,
			Control:           "address (loopback host:port of its --listen-metrics-urls), by which health is asked without a certificate and for a peer's placement too; it needs none",
			Reload:            "none: certificate and key are read at each handshake",
			Leaf:              AtHandshake,
			KeyType:           AtHandshake,
			AnchorAdd:         AtRestart,
			AnchorRemove:      AtRestart,
			CRL:               AtHandshake,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "restart, member by member",
			Validates:         No,
			BrokenPair:        "every new handshake fails until mended",
			Owner:             "readable by etcd's user",
			Word:              "none",
			Health:            "/health, which reads through a leader; its own peers are all connected (/metrics against the member list, over a control path against those that it has heard of). At a peer's port without a control path: answers",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.HTTP,
			Measured:          "3.4, 3.5, 3.6",
			Note: "Restart one member at a time, the leader last and after moving it, and wait for health before the next. " +
				"A peer certificate needs serverAuth and clientAuth; so does a server's where the JSON gateway is used. " +
				"A CRL file must be DER and holds one list, that of the server's own issuer: clients of other authorities are not looked up. It is compared by serial number alone, " +
				"and after the handshake: a revoked client is hung up on, so a proof asks over HTTP and takes no session ticket for a yes.",
		},
		restartCloses: true,
		Proof:         ProofDefaults{Immediate: true},
		plan:          planEtcd,
		contact:       contactEtcd,
		health:        healthOfEtcd,
	}
}

func planEtcd(t Target, change Change) []Act {
	switch {
	case change.First:
		return t.nothing("etcd reads these files when it starts")
	case !change.Bundle():
		return t.nothing("etcd reads certificate and key at each handshake")
	case t.RestartCommand == "":
		return []Act{{Kind: ActPending, Target: t, Reason: fmt.Sprintf(
			"etcd %s reads its CA files at start only and its intent names no restartCommand: the new bundle takes effect at its next restart", t.Name)}}
	}
	return []Act{{Kind: ActRestart, Target: t, Command: t.RestartCommand, Reason: "etcd reads its CA files at start only"}}
}
