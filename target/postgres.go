package target

import (
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/probe"
)

// postgres is PostgreSQL.
func postgres() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetPostgres,
			Title:             "PostgreSQL",
			Layout:            LayoutSymlink,
			Control:           "address (directory of its unix socket, with the port), user and passwordFile of a role with pg_monitor and EXECUTE on pg_reload_conf; or pidFile alone",
			Reload:            "SIGHUP to the postmaster, or pg_reload_conf()",
			Word:              "none: pg_reload_conf() says t whatever happens; pg_stat_ssl shows what sessions use",
			Owner:             "0600 of the server's user, or 0640 of root and its group",
			Health:            "a standby streams, a primary accepts writes",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               AtReload,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "pg_terminate_backend by pg_stat_ssl.issuer_dn",
			Validates:         Yes,
			BrokenPair:        "the old pair stays; pg_reload_conf() says t all the same, only the log tells",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.Postgres,
			Measured:          "15",
			Note:              "A standby is a member; its identity towards the primary is a placement of its own.",
		},
	}
}
