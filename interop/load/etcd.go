package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

type etcd struct {
	client *clientv3.Client
	n      int
}

// Etcd writes a counter, at whichever of the members answers.
func Etcd(addresses ...string) Dialer {
	return func(ctx context.Context, config *tls.Config) (Session, error) {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: addresses, TLS: config, Logger: zap.NewNop(), DialTimeout: 5 * time.Second,
			DialOptions: []grpc.DialOption{grpc.WithBlock()}, //nolint // to connect is part of a request here
		})
		if err != nil {
			return nil, err
		}
		return &etcd{client: client}, nil
	}
}

func (e *etcd) Request(ctx context.Context) error {
	e.n++
	_, err := e.client.Put(ctx, fmt.Sprintf("interop/%d", e.n%16), fmt.Sprint(e.n))
	return err
}

func (e *etcd) Close() error { return e.client.Close() }
