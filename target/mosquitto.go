package target

import "github.com/rotunda-pki/rotunda/fleet"

// mosquitto is Mosquitto.
func mosquitto() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetMosquitto,
			Title:             "Mosquitto",
			Layout:            LayoutSymlink,
			Control:           "pidFile",
			Reload:            "SIGHUP",
			Word:              "none",
			Owner:             "readable by mosquitto",
			Health:            "answers",
			Leaf:              AtReload,
			KeyType:           AtRestart,
			AnchorAdd:         AtRestart,
			AnchorRemove:      AtRestart,
			CRL:               AtRestart,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "restart",
			Validates:         No,
			BrokenPair:        "a bad key: new handshakes fail",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          "mqtt",
			Measured:          "2.0.11",
		},
	}
}
