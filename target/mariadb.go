package target

import (
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/probe"
)

// mariadb is MariaDB.
func mariadb() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetMariaDB,
			Title:             "MariaDB",
			Layout:            LayoutSymlink,
			Control:           "address (unix socket), user and passwordFile of an account with RELOAD",
			Reload:            "FLUSH SSL",
			Word:              "the answer to FLUSH SSL",
			Owner:             "readable by mysql",
			Health:            "a replica runs both threads",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               AtReload,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "KILL by user",
			Validates:         Yes,
			BrokenPair:        "FLUSH SSL answers error 1105 and the old pair stays",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.MySQL,
			Measured:          "10.11",
		},
	}
}
