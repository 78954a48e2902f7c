package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/rotunda-pki/rotunda/interop/eye"
	"github.com/rotunda-pki/rotunda/probe"
)

type etcd struct {
	client *clientv3.Client
	n      int
}

// Etcd writes a counter, at whichever of the members answers.
func Etcd(addresses ...string) Dialer {
	var dialled atomic.Int64
	return func(ctx context.Context, config *tls.Config) (Session, error) {
		if len(addresses) == 1 {
			if err := greet(ctx, addresses[0], config); err != nil {
				return nil, err
			}
		}
		first := int(dialled.Add(1)) % len(addresses) // whoever tries again asks another one
		client, err := clientv3.New(clientv3.Config{Endpoints: slices.Concat(addresses[first:], addresses[:first]), TLS: config, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
		if err != nil {
			return nil, err
		}
		return &etcd{client: client}, nil
	}
}

// greet says the first words of HTTP/2 and reads the answer: etcd's own client
// would go on trying where it is refused.
func greet(ctx context.Context, address string, config *tls.Config) error {
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := eye.Dial(ctx, address, probe.NoPreamble, config)
	if err != nil {
		return err
	}
	defer conn.NetConn().Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+settings); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, len(settings)))
	return err
}

func (e *etcd) Request(ctx context.Context) error {
	e.n++
	_, err := e.client.Put(ctx, fmt.Sprintf("interop/%d", e.n%16), fmt.Sprint(e.n))
	return err
}

func (e *etcd) Close() error { return e.client.Close() }
