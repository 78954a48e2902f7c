package target

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"net"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// unverified is TLS to whoever it is, for what is asked over a local socket
// and decides nothing.
var unverified = &tls.Config{InsecureSkipVerify: true}

// Numbers of errors, from the manual of MySQL; MariaDB has the same.
const (
	mysqlUnknownError    = 1105 // MariaDB: what FLUSH SSL answers
	mysqlSSLLibraryError = 3888 // MySQL: what ALTER INSTANCE RELOAD TLS answers
)

// mysqlSession is one session over the control path. Its server is MariaDB or
// MySQL, which shows once its version is read.
type mysqlSession struct {
	t    Target
	ctx  context.Context // of this one session, which ends before it
	db   *sql.DB
	conn *sql.Conn
	link *mysqlLink
	free context.CancelFunc
	says mysqlDialect
}

// mysqlLink is the connection below the driver, which tells nobody why one
// failed.
type mysqlLink struct {
	net.Conn
	err error // of opening it
}

func (l *mysqlLink) tooMuch() bool {
	limited, ok := l.Conn.(*limitedConn)
	return ok && limited.left <= 0
}

// mysqlLogin opens one, in the plain or under TLS. The caller closes it.
func (t Target) mysqlLogin(ctx context.Context, under *tls.Config) (*mysqlSession, error) {
	config, link, err := t.mysqlConfig(under)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "configure MySQL's driver")
	}
	ctx, cancel := context.WithTimeout(ctx, plainTimeout)
	db := sql.OpenDB(connector)
	conn, err := db.Conn(ctx)
	switch {
	case err == nil:
		return &mysqlSession{t: t, ctx: ctx, db: db, conn: conn, link: link, free: cancel}, nil
	case link.err != nil:
		err = t.unreached(ctx, link.err)
	case link.tooMuch():
		err = t.endless()
	default:
		err = t.mysqlRefusal(ctx, err)
	}
	cancel()
	return nil, errors.Join(err, db.Close())
}

// mysqlConfig says who the agent is.
func (t Target) mysqlConfig(under *tls.Config) (*mysql.Config, *mysqlLink, error) {
	if t.Control.Address == "" || t.Control.User == "" {
		return nil, nil, fault.New(fault.Invalid, "target %s: agent.yaml names no socket of MariaDB's, or no account", t.Name).
			WithRemedy("make an account (CREATE USER rotunda@localhost IDENTIFIED BY '…'; GRANT RELOAD, SLAVE MONITOR ON *.* TO rotunda@localhost) "+
				"and name it as targets.%s.address (/run/mysqld/mysqld.sock), user and passwordFile", t.Name)
	}
	config, link := mysql.NewConfig(), new(mysqlLink)
	config.User, config.Addr, config.Net, config.TLS = t.Control.User, t.Control.Address, "tcp", under
	config.Logger = &mysql.NopLogger{} // the errors that it returns say the same
	if t.Control.bySocket() {
		config.Net = "unix"
	}
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		link.Conn, link.err = t.dial(ctx)
		return link.Conn, link.err
	}
	password, err := t.secret()
	if err != nil {
		return nil, nil, err
	}
	config.Passwd = string(password)
	return config, link, nil
}

// mysqlError is the number and the text of an error that the server answered,
// 0 for any other.
func mysqlError(err error) (uint16, string) {
	if answer, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return answer.Number, answer.Message
	}
	return 0, ""
}

// mysqlRefusal is a login that failed.
func (t Target) mysqlRefusal(ctx context.Context, err error) error {
	number, text := mysqlError(err)
	switch {
	case number == 0 && (ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)):
		return fault.New(fault.Unavailable, "target %s: no answer in time at its control path %s", t.Name, t.Control.Address).
			WithRemedy("see whether it hangs; if it does not, another product listens there")
	case number == 0 && t.Address != "" && !t.listens(ctx):
		return fault.Wrap(fault.Unavailable, err, "target %s hung up at its control path %s", t.Name, t.Control.Address)
	case number == 0:
		return fault.Wrap(fault.Invalid, err, "target %s: what answers at its control path %s does not speak MariaDB's protocol", t.Name, t.Control.Address).
			WithRemedy("name MariaDB's own socket as targets.%s.address in agent.yaml", t.Name)
	case number == 1045 || number == 1698 || number == 1044 || number == 4151:
		return fault.New(fault.Forbidden, "target %s: MariaDB does not let in %s: %s", t.Name, t.Control.User, quote(text)).
			WithRemedy("give the account the password of targets.%s.passwordFile: ALTER USER %s@localhost IDENTIFIED BY '…'", t.Name, t.Control.User)
	}
	// Starting, stopping, too many connections, a blocked host.
	return fault.New(fault.Unavailable, "target %s: MariaDB takes no sessions now: %s (error %d)", t.Name, quote(text), number).
		WithRemedy("look at its error log")
}

func (s *mysqlSession) close() {
	_ = s.conn.Close() // all that was wanted has been read
	_ = s.db.Close()
	s.free()
}

// rows asks, and returns all rows, each by the names of its columns, as text,
// NULL as "".
func (s *mysqlSession) rows(query string) ([]map[string]string, error) {
	rows, err := s.conn.QueryContext(s.ctx, query)
	if err != nil {
		return nil, s.failed(query, err)
	}
	defer func() { _ = rows.Close() }() // read to its end
	columns, err := rows.Columns()
	if err != nil {
		return nil, s.failed(query, err)
	}
	values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	var all []map[string]string
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, s.failed(query, err)
		}
		row := make(map[string]string, len(columns))
		for i, column := range columns {
			row[column] = values[i].String
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(query, err)
	}
	return all, nil
}

// failed is an error to a statement. What the server answered stays in it.
func (s *mysqlSession) failed(query string, err error) error {
	if s.link.tooMuch() {
		return s.t.endless()
	}
	number, text := mysqlError(err)
	switch number {
	case 0:
		return fault.Wrap(fault.Unavailable, err, "target %s: ask %s", s.t.Name, query)
	case 1227, 1142, 1044: // denied
		return s.noRight(quote(text))
	}
	return fault.Wrap(fault.Invalid, err, "target %s: %s", s.t.Name, query).
		WithRemedy("see that targets.%s.address in agent.yaml leads to MariaDB itself", s.t.Name)
}

func (s *mysqlSession) noRight(what string) error {
	return fault.New(fault.Forbidden, "target %s: account %s has not the rights that the agent needs: %s", s.t.Name, s.t.Control.User, what).
		WithRemedy("GRANT %s ON *.* TO %s@localhost", s.says.rights, s.t.Control.User)
}

// mysqlNamed reads the rows of SHOW VARIABLES and SHOW STATUS, by their names
// in lower case.
func mysqlNamed(rows []map[string]string) map[string]string {
	named := map[string]string{}
	for _, row := range rows {
		named[strings.ToLower(row["Variable_name"])] = row["Value"]
	}
	return named
}
