package target

import "github.com/rotunda-pki/rotunda/fleet"

// memcached is memcached.
func memcached() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetMemcached,
			Title:             "memcached",
			Layout:            LayoutSymlink,
			Control:           "address (a notls: listener on loopback)",
			Reload:            "refresh_certs",
			Word:              "the answer to refresh_certs, which says OK to a broken pair too",
			Owner:             "readable by memcached's user",
			Health:            "answers",
			Leaf:              AtReload,
			KeyType:           AtRestart,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtRestart,
			CRL:               Never,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "restart",
			Validates:         No,
			BrokenPair:        "every new handshake fails, and TLS can not be used to mend it",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Measured:          "1.6.18",
			Note:              "A removed CA stays trusted until a restart, though it is not advertised any more.",
		},
	}
}
