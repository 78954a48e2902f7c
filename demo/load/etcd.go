package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// keepEtcd writes and reads at one member over one connection.
func (l *Load) keepEtcd(member, key string) {
	var dials atomic.Int64
	client, err := l.dialEtcd(member, func() {
		if dials.Add(1) > 1 {
			l.reconnects.Add(1)
		}
	})
	if err != nil {
		l.note("open a client of "+member, err)
		return
	}
	defer client.Close()
	turn := 0
	l.each(keptEvery, func() {
		turn++
		l.exchange(client, member, key, turn)
	})
}

// openEtcd opens a connection to one member for each write and read.
func (l *Load) openEtcd(member, key string) {
	turn := 0
	l.each(newEvery, func() {
		client, err := l.dialEtcd(member, func() {})
		if err != nil {
			l.note("open a client of "+member, err)
			return
		}
		defer client.Close()
		turn++
		l.exchange(client, member, key, turn)
	})
}

// exchange writes a value, and reads it back through the whole cluster.
func (l *Load) exchange(client *clientv3.Client, member, key string, turn int) {
	value := fmt.Sprint(turn)
	wrote := l.request("write at "+member, func(ctx context.Context) error {
		_, err := client.Put(ctx, key, value)
		return err
	})
	if !wrote {
		return
	}
	l.request("read at "+member, func(ctx context.Context) error {
		got, err := client.Get(ctx, key)
		if err != nil {
			return err
		}
		if len(got.Kvs) != 1 || !bytes.Equal(got.Kvs[0].Value, []byte(value)) {
			return errors.New("what was written did not come back")
		}
		return nil
	})
}

// dialEtcd makes a client of one member alone, so that its failure cannot
// hide behind the others. The certificate is read for each connection anew.
func (l *Load) dialEtcd(member string, dialled func()) (*clientv3.Client, error) {
	roots, err := l.roots()
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{
		Endpoints:       []string{"https://" + member},
		MaxUnaryRetries: 1, // the first attempt is the only one
		Logger:          zap.NewNop(),
		TLS: &tls.Config{
			RootCAs:              roots,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return Certificate(l.settings.Identity) },
		},
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			dialled()
			l.opened.Add(1)
			return (&net.Dialer{}).DialContext(ctx, "tcp", member)
		})},
	})
}
