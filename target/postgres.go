package target

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// postgresRights is what the agent's role has to be given, for a role of the
// name in %[1]s.
const postgresRights = "GRANT pg_monitor TO %[1]s; GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO %[1]s"

// postgres is PostgreSQL. It reads its files again at a SIGHUP, keeps the old
// ones if they are no good, and tells nobody but its log.
func postgres() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetPostgres,
			Title:             "PostgreSQL",
			Layout:            LayoutSymlink,
			Control:           "address (its unix socket, /var/run/postgresql/.s.PGSQL.5432), user and passwordFile of a role with pg_monitor and EXECUTE on pg_reload_conf(), for orders pg_signal_backend too; or pidFile alone, which shows less",
			Reload:            "pg_reload_conf(), or SIGHUP to the postmaster",
			Word:              "none on its own certificate: pg_reload_conf() says t whatever happens; pg_stat_ssl counts the sessions by the issuer of their client certificates",
			Owner:             "0600 of the server's user, or 0640 of root and its group; it refuses others",
			Health:            "over its socket: a standby streams; a primary takes writes, all its standbys stream, no physical replication slot is without its standby. By pidFile alone: answers",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               AtReload,
			Staple:            Never,
			CRLInclude:        "include_if_exists = 'DIR/current/crl.conf' in postgresql.conf, in the place of ssl_crl_file",
			ClosesConnections: No,
			CloseSessionsBy:   "pg_terminate_backend by pg_stat_ssl.issuer_dn, which is the issuing CA and not the root",
			Validates:         Yes,
			BrokenPair:        "the old pair and the old CAs stay; pg_reload_conf() says t all the same, only the log tells",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.Postgres,
			Measured:          "15.18",
			Note: "From 10 on. A standby is a member; its identity towards the primary is a placement of its own, without a target: walreceiver reads it at each connect. " +
				"A stream that is up stays up through a wrong certificate until it reconnects. " +
				"It refuses a new pair if its CA file does not parse, and the reverse.",
		},
		contact:   contactPostgres,
		crlConfig: func(path string) string { return "ssl_crl_file = '" + strings.ReplaceAll(path, "'", "''") + "'" },
		reload:    reloadPostgres,
		health:    healthOfPostgres,
		says:      postgresSays,

		closeSessions:  closePostgresSessions,
		tellsSerials:   true,
		reconnectLinks: reconnectPostgres,
	}
}

// contactPostgres asks over the socket; where agent.yaml names a pid file
// alone, it sees no more than that this is a PostgreSQL, and of which version.
func contactPostgres(ctx context.Context, _ Host, t Target) (Contact, error) {
	if t.Control.Address == "" {
		return t.postmaster(ctx)
	}
	s, err := t.postgresLogin(ctx)
	if err != nil {
		return Contact{}, err
	}
	defer s.close()
	return s.look()
}

func (t Target) postmaster(ctx context.Context) (Contact, error) {
	process, err := t.process(ctx, postmasters...)
	if err != nil {
		return Contact{}, err
	}
	_ = process.Release() // it was only looked at
	seen := Contact{Product: "postgres"}
	// postmaster.pid lies in the data directory, and so does its version. The
	// pid file that Debian keeps under /run has no such neighbour.
	if version, err := os.ReadFile(filepath.Join(filepath.Dir(t.Control.PIDFile), "PG_VERSION")); err == nil {
		seen.Version = strings.TrimSpace(string(version))
		if below(seen.Version+".0", oldestPostgres, 0) {
			return seen, t.tooOld("PostgreSQL", seen.Version, fmt.Sprint(oldestPostgres), "reloading TLS files")
		}
	}
	return seen, nil
}

// oldestPostgres is the first version that reads its TLS files at a reload.
const oldestPostgres = 10

var postmasters = []string{"postgres", "postmaster"}

// reloadPostgres makes it read its files. That it was told is all that can be
// said: pg_conf_load_time() and the answer are the same whether or not the
// files were any good, so the level stays delivered and the proof decides.
func reloadPostgres(ctx context.Context, _ Host, t Target, _ Change) (Loaded, error) {
	told := Loaded{Level: fleet.Delivered}
	if t.Control.Address == "" {
		return told, t.signal(ctx, syscall.SIGHUP, postmasters...)
	}
	t.CRL = "" // what names them may be among what it is about to read
	s, err := t.postgresLogin(ctx)
	if err != nil {
		return told, err
	}
	defer s.close()
	if _, err := s.look(); err != nil {
		return told, err
	}
	row, err := s.row("SELECT pg_catalog.pg_reload_conf()")
	if err != nil {
		return told, err
	}
	if row[0] != "t" {
		return told, fault.New(fault.Unavailable, "target %s: pg_reload_conf() says %s: the postmaster could not be signalled", t.Name, quote(row[0])).
			WithRemedy("look at PostgreSQL's log")
	}
	return told, nil
}

// postgresSays counts the sessions by what their clients showed. Of its own
// certificate PostgreSQL has no word.
func postgresSays(ctx context.Context, _ Host, t Target) (string, error) {
	if t.Control.Address == "" {
		return "", nil
	}
	s, err := t.postgresLogin(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	rows, err := s.rows(`SELECT count(*), coalesce(version, '?'), coalesce(issuer_dn, '')
		FROM pg_catalog.pg_stat_ssl WHERE ssl GROUP BY 2, 3 ORDER BY 1 DESC, 3 LIMIT 8`)
	if err != nil {
		return "", err
	}
	var parts []string
	for _, row := range rows {
		issuer := "no client certificate"
		if row[2] != "" {
			issuer = "client issuer " + row[2]
		}
		parts = append(parts, fmt.Sprintf("%s × %s, %s", row[0], row[1], issuer))
	}
	if len(parts) == 0 {
		return "pg_stat_ssl: no TLS session", nil
	}
	return "pg_stat_ssl: " + strings.Join(parts, "; "), nil
}
