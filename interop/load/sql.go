package load

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"net"
	"strconv"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// Login is how clients of a database log in.
type Login struct{ User, Password, Database string }

type postgres struct {
	conn *pgx.Conn
	sql  string
}

// Postgres inserts a row.
func Postgres(login Login) func(address string) Dialer {
	return askPostgres(login, "INSERT INTO load DEFAULT VALUES")
}

// Standby reads one, where nobody may write.
func Standby(login Login) func(address string) Dialer {
	return askPostgres(login, "SELECT id FROM load LIMIT 1")
}

func askPostgres(login Login, sql string) func(address string) Dialer {
	return func(address string) Dialer {
		return func(ctx context.Context, tlsConfig *tls.Config) (Session, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			config, err := pgx.ParseConfig("host=localhost sslmode=disable")
			if err != nil {
				return nil, err
			}
			number, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return nil, err
			}
			config.Host, config.Port, config.Fallbacks = host, uint16(number), nil
			config.User, config.Password, config.Database, config.TLSConfig = login.User, login.Password, login.Database, tlsConfig
			conn, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				return nil, err
			}
			return postgres{conn, sql}, nil
		}
	}
}

func (p postgres) Request(ctx context.Context) error {
	_, err := p.conn.Exec(ctx, p.sql)
	return err
}

func (p postgres) Close() error { return p.conn.Close(context.Background()) }

type mariadb struct {
	db   *sql.DB
	conn *sql.Conn
}

// MariaDB inserts a row.
func MariaDB(login Login) func(address string) Dialer {
	return func(address string) Dialer {
		return func(ctx context.Context, tlsConfig *tls.Config) (Session, error) {
			config := mysql.NewConfig()
			config.User, config.Passwd, config.DBName = login.User, login.Password, login.Database
			config.Net, config.Addr, config.TLS = "tcp", address, tlsConfig
			config.Logger = &mysql.NopLogger{}
			connector, err := mysql.NewConnector(config)
			if err != nil {
				return nil, err
			}
			db := sql.OpenDB(connector)
			conn, err := db.Conn(ctx)
			if err != nil {
				_ = db.Close()
				return nil, err
			}
			return mariadb{db, conn}, nil
		}
	}
}

func (m mariadb) Request(ctx context.Context) error {
	result, err := m.conn.ExecContext(ctx, "INSERT INTO app.load VALUES ()")
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%d rows were inserted: %w", n, err)
	}
	return nil
}

func (m mariadb) Close() error {
	_ = m.conn.Close()
	return m.db.Close()
}
