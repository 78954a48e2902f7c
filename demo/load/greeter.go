package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// keepGreeter has itself greeted over one connection.
func (l *Load) keepGreeter() {
	var kept net.Conn
	defer func() {
		if kept != nil {
			_ = kept.Close()
		}
	}()
	l.each(keptEvery, func() {
		ok := l.request("greeting on a kept connection", func(ctx context.Context) (err error) {
			if kept == nil {
				if kept, err = l.dialGreeter(ctx); err != nil {
					return err
				}
			}
			return greet(kept)
		})
		if !ok && kept != nil {
			_ = kept.Close()
			kept = nil
			l.reconnects.Add(1)
		}
	})
}

// openGreeter opens a connection for each greeting.
func (l *Load) openGreeter() {
	l.each(newEvery, func() {
		l.request("greeting on a new connection", func(ctx context.Context) error {
			connection, err := l.dialGreeter(ctx)
			if err != nil {
				return err
			}
			defer connection.Close()
			return greet(connection)
		})
	})
}

func (l *Load) dialGreeter(ctx context.Context) (net.Conn, error) {
	roots, err := l.roots()
	if err != nil {
		return nil, err
	}
	l.opened.Add(1)
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: l.settings.Greets, MinVersion: tls.VersionTLS12}}
	connection, err := dialer.DialContext(ctx, "tcp", l.settings.Greeter)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return connection, nil
}

func greet(connection net.Conn) error {
	_ = connection.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(connection, "demo"); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	answer, err := bufio.NewReaderSize(connection, 64).ReadString('\n')
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if answer != "hello demo\n" {
		return errors.New("the greeting was another one")
	}
	return nil
}
