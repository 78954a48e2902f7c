package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"

	"github.com/rotunda-pki/rotunda/interop/eye"
	"github.com/rotunda-pki/rotunda/probe"
)

// web is a connection to an HTTP server. The retry of idempotent requests is
// the load's own to count, so there is no http.Client here.
type web struct {
	conn   *tls.Conn
	reader *bufio.Reader
}

// HTTP gets a page.
func HTTP(address string) Dialer {
	return func(ctx context.Context, config *tls.Config) (Session, error) {
		conn, err := eye.Dial(ctx, address, probe.NoPreamble, config)
		if err != nil {
			return nil, err
		}
		return &web{conn, bufio.NewReader(conn)}, nil
	}
}

func (w *web) Request(ctx context.Context) error {
	if end, ok := ctx.Deadline(); ok {
		if err := w.conn.SetDeadline(end); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(w.conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(w.reader, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}

func (w *web) Close() error { return w.conn.NetConn().Close() }
