package target

import (
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/probe"
)

// nats is NATS.
func nats() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetNATS,
			Title:             "NATS",
			Layout:            LayoutSymlink,
			Control:           "pidFile; address (loopback monitoring port) where the server has one",
			Reload:            "SIGHUP",
			Word:              "config_load_time of the monitoring port, where there is one",
			Owner:             "readable by nats's user",
			Health:            "/healthz of the monitoring port, where there is one",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               Never,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "restart",
			Validates:         Yes,
			BrokenPair:        "the old pair stays; only the log tells",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.NATS,
			Measured:          "2.9",
		},
	}
}
