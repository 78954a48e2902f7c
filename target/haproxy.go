package target

import "github.com/rotunda-pki/rotunda/fleet"

// haproxy is HAProxy.
func haproxy() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetHAProxy,
			Title:             "HAProxy",
			Layout:            LayoutSymlink,
			Control:           "address (unix stats socket, level admin) for leaves; pidFile of the master for CAs",
			Reload:            "set ssl cert and commit ssl cert for a leaf; SIGUSR2 to the master for a CA",
			Word:              "show ssl cert",
			Owner:             "readable by root",
			Health:            "answers",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               AtReload,
			Staple:            AtReload,
			ClosesConnections: Yes,
			CloseSessionsBy:   "a reload closes all connections of the old workers in time",
			Validates:         Yes,
			BrokenPair:        "commit ssl cert is refused, or the old workers stay; only the log tells",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Measured:          "2.6",
			Note:              "A leaf goes over the runtime API and closes nothing. A CA takes a reload, which closes connections: set ssl ca-file lies afterwards. Tickets and session cache must be off for a withdrawal to hold.",
		},
	}
}
