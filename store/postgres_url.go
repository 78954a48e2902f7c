package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// How long is waited for a database that says nothing: for its first word, and
// for a word when there should be one.
const (
	connectWithin = 10 * time.Second
	silentWithin  = 15 * time.Second
	answersWithin = time.Minute // one that waits for another server has 30 s of that
)

// parseURL reads the URL of a database and the files that it names.
func parseURL(text string) (*pgx.ConnConfig, error) {
	const like = "it is like postgres://rotunda@db.example.org:5432/rotunda?sslmode=verify-full&sslrootcert=/etc/rotunda/db-ca.pem"
	scheme, _, _ := strings.Cut(text, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return nil, fault.New(fault.Invalid, "the URL of the store begins with %.20q: a store is a SQLite file or a PostgreSQL database", scheme+"://").
			WithRemedy(like)
	}
	config, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, withoutSecret(err), "the URL of the store").WithRemedy(like)
	}
	if err := saysHowSafe(text, config); err != nil {
		return nil, err
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectWithin
	}
	dialer := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silentWithin / 3, Interval: silentWithin / 5, Count: 3},
		ControlContext:  giveUpOnSilence,
	}
	config.DialFunc = dialer.DialContext
	config.RuntimeParams["application_name"] = "rotunda"
	return config, nil
}

// saysHowSafe wants the way to another host to be said to be TLS, or not to be:
// without a word libpq takes whatever it gets, and whoever stands between could
// rewrite the store.
func saysHowSafe(text string, config *pgx.ConnConfig) error {
	address, err := netip.ParseAddr(config.Host)
	near := strings.HasPrefix(config.Host, "/") || config.Host == "localhost" || err == nil && address.IsLoopback()
	if near || strings.Contains(text, "sslmode=") || os.Getenv("PGSSLMODE") != "" {
		return nil
	}
	return fault.New(fault.Invalid, "the URL of the store leads to %s and has no sslmode", config.Host).
		WithRemedy("sslmode=verify-full with sslrootcert; or sslmode=disable where the way there is safe without")
}

// withoutSecret keeps of pgx's error what it says of the URL, not the URL.
func withoutSecret(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return errors.New("it can't be parsed")
}

// giveUpOnSilence ends a connection whose bytes nobody acknowledges: a server
// that was cut off from its database must not wait for the kernel's minutes.
func giveUpOnSilence(_ context.Context, network, _ string, raw syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silentWithin.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// shownURL is where the database lies, without a secret.
func shownURL(config *pgx.ConnConfig) string {
	host := net.JoinHostPort(config.Host, fmt.Sprint(config.Port))
	shown := url.URL{Scheme: "postgres", User: url.User(config.User), Host: host, Path: "/" + config.Database}
	if config.Host != "" && config.Host[0] == '/' { // a directory of sockets
		shown.Host = ""
		shown.RawQuery = "host=" + config.Host
	}
	return shown.String()
}

// setUp readies a connection. A server that stops in the middle of a
// transaction must not hold up the others for long; what was answered is on
// disk, whatever the database's default is.
func (e *postgres) setUp(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SET idle_in_transaction_session_timeout = '10s'`)
	if err == nil {
		_, err = conn.Exec(ctx, `SET lock_timeout = '30s'`)
	}
	if err == nil {
		_, err = conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')`)
	}
	return err
}
