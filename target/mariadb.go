package target

import (
	"context"
	"fmt"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// mariadb is MariaDB, and MySQL, which says the same in other words.
func mariadb() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetMariaDB,
			Title:             "MariaDB",
			Layout:            LayoutSymlink,
			Control:           "address (unix socket), user and passwordFile of an account with RELOAD and SLAVE MONITOR (MySQL: CONNECTION_ADMIN and REPLICATION CLIENT)",
			Reload:            "FLUSH SSL (MySQL: ALTER INSTANCE RELOAD TLS)",
			Word:              "the answer to FLUSH SSL; Ssl_server_not_before and _not_after of a new session",
			Owner:             "readable by mysql",
			Health:            "answers; a replica runs both threads of each of its channels",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               AtReload,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "KILL by user: it keeps no list of issuers",
			Validates:         Yes,
			BrokenPair:        "FLUSH SSL answers error 1105 and the old pair and CAs stay",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.MySQL,
			Measured:          "10.11.19",
			Note: "From 10.4 on. MySQL from 8.0.16 on takes the same way by its own statement, and was not measured. " +
				"A replica's identity towards its primary (MASTER_SSL_CERT) is a placement of its own, without a target: it is read at each connect. " +
				"A stream that is up stays up through a wrong certificate until it reconnects.",
		},
		contact: contactMariaDB,
		reload:  reloadMariaDB,
		health:  healthOfMariaDB,
		says:    mariadbSays,
	}
}

// mysqlDialect is what MariaDB and MySQL say differently.
type mysqlDialect struct {
	product, title string
	major, minor   int    // the oldest that can
	oldest         string // in words
	reload         string
	right          string // that the reload takes
	rights         string // that the agent needs
	replication    string // lists the replica's channels
	io, sql        string // columns of it
	ioError        string
}

var mysqlDialects = map[bool]mysqlDialect{
	true: {
		product: "mariadb", title: "MariaDB", major: 10, minor: 4, oldest: "10.4",
		reload: "FLUSH SSL", right: "RELOAD", rights: "RELOAD, SLAVE MONITOR",
		replication: "SHOW ALL SLAVES STATUS", io: "Slave_IO_Running", sql: "Slave_SQL_Running", ioError: "Last_IO_Error",
	},
	false: {
		product: "mysql", title: "MySQL", major: 8, minor: 0, oldest: "8.0.16",
		reload: "ALTER INSTANCE RELOAD TLS", right: "CONNECTION_ADMIN", rights: "CONNECTION_ADMIN, REPLICATION CLIENT",
		replication: "SHOW REPLICA STATUS", io: "Replica_IO_Running", sql: "Replica_SQL_Running", ioError: "Last_IO_Error",
	},
}

func contactMariaDB(ctx context.Context, _ Host, t Target) (Contact, error) {
	s, err := t.mysqlLogin(ctx, nil)
	if err != nil {
		return Contact{}, err
	}
	defer s.close()
	return s.look()
}

// reloadMariaDB makes it read its files. It reads all of them or none, and the
// answer tells which.
func reloadMariaDB(ctx context.Context, _ Host, t Target, _ Change) (Loaded, error) {
	s, err := t.mysqlLogin(ctx, nil)
	if err != nil {
		return Loaded{}, err
	}
	defer s.close()
	if _, err := s.look(); err != nil {
		return Loaded{}, err
	}
	if _, err := s.rows(s.says.reload); err != nil {
		if number, text := mysqlError(err); number == mysqlUnknownError || number == mysqlSSLLibraryError {
			return Loaded{}, fault.New(fault.Invalid, "target %s: %s did not take the files of %s: %s", t.Name, s.says.title, t.Directory, quote(text)).
				WithRemedy("see its error log; its user must be able to read %s and all that leads there", t.File("key.pem"))
		}
		return Loaded{}, err
	}
	return Loaded{Level: fleet.Loaded}, nil
}

// healthOfMariaDB: whoever is a replica has to be at work.
func healthOfMariaDB(ctx context.Context, _ Host, t Target, _ probe.Spec) error {
	if t.Control == nil {
		return nil
	}
	s, err := t.mysqlLogin(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.version(); err != nil {
		return err
	}
	channels, err := s.rows(s.says.replication)
	if err != nil {
		return err
	}
	for _, channel := range channels {
		if channel[s.says.io] != "Yes" || channel[s.says.sql] != "Yes" {
			return fmt.Errorf("it is a replica, and its channel %q has %s %s and %s %s: %s", channel["Connection_name"]+channel["Channel_Name"],
				s.says.io, channel[s.says.io], s.says.sql, channel[s.says.sql], quote(channel[s.says.ioError]))
		}
	}
	return nil
}

// mariadbSays is when the certificate of a session taken this moment begins
// and ends, as the server has it. It says so in sessions under TLS alone; this
// one goes over the socket, and proves nothing.
func mariadbSays(ctx context.Context, _ Host, t Target) (string, error) {
	s, err := t.mysqlLogin(ctx, unverified)
	if err != nil {
		return "", err
	}
	defer s.close()
	rows, err := s.rows("SHOW SESSION STATUS WHERE Variable_name IN ('Ssl_server_not_before', 'Ssl_server_not_after')")
	if err != nil {
		return "", err
	}
	status := mysqlNamed(rows)
	if status["ssl_server_not_after"] == "" {
		return "", nil
	}
	return fmt.Sprintf("Ssl_server_not_before %s, Ssl_server_not_after %s", status["ssl_server_not_before"], status["ssl_server_not_after"]), nil
}
