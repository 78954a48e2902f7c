package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// postgresSession is a session over the control path, in the plain.
type postgresSession struct {
	t    Target
	ctx  context.Context // of this one session, which ends before it
	conn *pgconn.PgConn
	free context.CancelFunc
}

// postgresLogin opens one. The caller closes it.
func (t Target) postgresLogin(ctx context.Context) (*postgresSession, error) {
	ctx, cancel := context.WithTimeout(ctx, plainTimeout)
	conn, err := t.postgresConnect(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &postgresSession{t: t, ctx: ctx, conn: conn, free: cancel}, nil
}

func (t Target) postgresConnect(ctx context.Context) (*pgconn.PgConn, error) {
	config, err := t.postgresConfig()
	if err != nil {
		return nil, err
	}
	var unreached error
	config.DialFunc = func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		conn, unreached = t.dial(ctx)
		return conn, unreached
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	switch {
	case err == nil:
		return conn, nil
	case unreached != nil:
		return nil, t.unreached(ctx, unreached)
	}
	return nil, t.postgresRefusal(ctx, err)
}

// postgresConfig says who the agent is. All that the driver would otherwise
// take from the environment or the home directory is named.
func (t Target) postgresConfig() (*pgconn.Config, error) {
	if t.Control.User == "" {
		return nil, fault.New(fault.Invalid, "target %s: agent.yaml names no role to ask PostgreSQL as", t.Name).
			WithRemedy("make one (CREATE ROLE rotunda LOGIN PASSWORD '…'; "+postgresRights+") and name it as targets.%s.user and passwordFile, or name the pidFile alone", "rotunda", t.Name)
	}
	if base := filepath.Base(t.Control.Address); filepath.IsAbs(t.Control.Address) && !strings.HasPrefix(base, ".s.PGSQL.") {
		return nil, fault.New(fault.Invalid, "target %s: %s is not a socket of PostgreSQL's", t.Name, t.Control.Address).
			WithRemedy("name the socket itself as targets.%s.address in agent.yaml, like /var/run/postgresql/.s.PGSQL.5432", t.Name)
	}
	options := "host=/ port=5432 user=rotunda database=postgres sslmode=disable passfile=/dev/null target_session_attrs=any"
	if !t.Control.bySocket() {
		// While the server is down any user of the host can listen on its
		// port, and ask for the password in the clear.
		options += " require_auth=!password"
	}
	config, err := pgconn.ParseConfig(options)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "configure PostgreSQL's driver")
	}
	config.User, config.RuntimeParams = t.Control.User, map[string]string{"application_name": "rotunda-agent"}
	if t.Control.Password != nil {
		password, err := t.Control.Password()
		if err != nil {
			return nil, err
		}
		config.Password = string(password)
	}
	return config, nil
}

// postgresRefusal is a login that failed.
func (t Target) postgresRefusal(ctx context.Context, err error) error {
	refusal, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, errTooMuch):
		return t.endless()
	case !answered && (ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)):
		return fault.New(fault.Unavailable, "target %s: no answer in time at its control path %s", t.Name, t.Control.Address).
			WithRemedy("see whether it hangs; if it does not, another product listens there")
	case !answered && t.Address != "" && !t.listens(ctx):
		return fault.Wrap(fault.Unavailable, err, "target %s hung up at its control path %s", t.Name, t.Control.Address)
	case !answered:
		return fault.Wrap(fault.Invalid, err, "target %s: what answers at its control path %s does not speak PostgreSQL's protocol", t.Name, t.Control.Address).
			WithRemedy("name PostgreSQL's own socket as targets.%s.address in agent.yaml", t.Name)
	}
	switch refusal.Code {
	case "28P01", "28000": // password, pg_hba.conf, peer, no such role
		return fault.New(fault.Forbidden, "target %s: PostgreSQL does not let in role %s: %s", t.Name, t.Control.User, quote(refusal.Message)).
			WithRemedy("give the role the password of targets.%s.passwordFile, and pg_hba.conf the line: local postgres %s scram-sha-256", t.Name, t.Control.User)
	case "3D000", "42501": // no database postgres, or no CONNECT
		return fault.New(fault.Forbidden, "target %s: PostgreSQL does not let role %s into database postgres: %s", t.Name, t.Control.User, quote(refusal.Message)).
			WithRemedy("GRANT CONNECT ON DATABASE postgres TO %s; the agent reads system views there and nothing else", t.Control.User)
	}
	// Starting, stopping, too many connections.
	return fault.New(fault.Unavailable, "target %s: PostgreSQL takes no sessions now: %s (SQLSTATE %s)", t.Name, quote(refusal.Message), refusal.Code).
		WithRemedy("look at PostgreSQL's log; a standby answers with hot_standby = on only")
}

func (s *postgresSession) close() {
	_ = s.conn.Close(s.ctx) // all that was wanted has been read
	s.free()
}

// rows asks, and returns all rows as text, NULL as "".
func (s *postgresSession) rows(sql string) ([][]string, error) {
	results, err := s.conn.Exec(s.ctx, sql).ReadAll()
	if err != nil {
		return nil, s.failed(err)
	}
	var rows [][]string
	for _, result := range results {
		for _, row := range result.Rows {
			var texts []string
			for _, column := range row {
				texts = append(texts, string(column))
			}
			rows = append(rows, texts)
		}
	}
	return rows, nil
}

// row is rows for what has exactly one.
func (s *postgresSession) row(sql string) ([]string, error) {
	rows, err := s.rows(sql)
	if err == nil && len(rows) != 1 {
		err = fault.New(fault.Invalid, "target %s: PostgreSQL answers %d rows where one was asked for", s.t.Name, len(rows))
	}
	if err != nil {
		return nil, err
	}
	return rows[0], nil
}

func (s *postgresSession) failed(err error) error {
	refusal, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, errTooMuch):
		return s.t.endless()
	case !answered:
		return fault.Wrap(fault.Unavailable, err, "target %s: ask PostgreSQL", s.t.Name)
	case refusal.Code == "42501":
		return s.noRight(quote(refusal.Message))
	case strings.HasPrefix(refusal.Code, "57") || strings.HasPrefix(refusal.Code, "53"):
		return fault.Wrap(fault.Unavailable, err, "target %s: ask PostgreSQL", s.t.Name)
	}
	return fault.Wrap(fault.Invalid, err, "target %s: ask PostgreSQL", s.t.Name).
		WithRemedy("see that targets.%s.address in agent.yaml leads to PostgreSQL itself", s.t.Name)
}

func (s *postgresSession) noRight(what string) error {
	return fault.New(fault.Forbidden, "target %s: role %s has not the rights that the agent needs: %s", s.t.Name, s.t.Control.User, what).
		WithRemedy("as a superuser: %s", fmt.Sprintf(postgresRights, s.t.Control.User))
}
