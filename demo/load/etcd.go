package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// awayAtMost is how long a member may be away for a restart. What fails there
// for longer has failed, whoever else could have answered.
const awayAtMost = 15 * time.Second

// attempt is how long one try at the other members may take.
const attempt = 2 * time.Second

// etcdClient speaks with one member alone, so that its failure cannot hide
// behind the others; they are asked only while it may be restarting.
type etcdClient struct {
	load   *Load
	member string
	others []string
	key    string
	turn   int
	away   time.Time        // since when the member does not answer; zero: it does
	spare  *clientv3.Client // of the others; nil: it was never needed
}

// keepEtcd writes and reads at one member over one connection.
func (l *Load) keepEtcd(member string, others []string, key string) {
	var dials atomic.Int64
	client, err := l.dialEtcd(func() {
		if dials.Add(1) > 1 {
			l.reconnects.Add(1)
		}
	}, member)
	if err != nil {
		l.note("open a client of "+member, err)
		return
	}
	defer client.Close()
	e := &etcdClient{load: l, member: member, others: others, key: key}
	defer e.close()
	l.each(keptEvery, func() { e.exchange(client) })
}

// openEtcd opens a connection to one member for each write and read.
func (l *Load) openEtcd(member string, others []string, key string) {
	e := &etcdClient{load: l, member: member, others: others, key: key}
	defer e.close()
	l.each(newEvery, func() {
		client, err := l.dialEtcd(func() {}, member)
		if err != nil {
			l.note("open a client of "+member, err)
			return
		}
		defer client.Close()
		e.exchange(client)
	})
}

func (e *etcdClient) close() {
	if e.spare != nil {
		_ = e.spare.Close()
	}
}

// exchange writes a value, and reads it back through the whole cluster.
func (e *etcdClient) exchange(client *clientv3.Client) {
	e.turn++
	value := fmt.Sprint(e.turn)
	wrote := e.request("write at "+e.member, client, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Put(ctx, e.key, value)
		return err
	})
	if !wrote {
		return
	}
	e.request("read at "+e.member, client, func(ctx context.Context, client *clientv3.Client) error {
		got, err := client.Get(ctx, e.key)
		if err != nil {
			return err
		}
		if len(got.Kvs) != 1 || !bytes.Equal(got.Kvs[0].Value, []byte(value)) {
			return errAnother
		}
		return nil
	})
}

var errAnother = errors.New("what was written did not come back")

// request does one request at the member, and where that may be restarting
// again at the others. The value is the same, so it may be written twice.
func (e *etcdClient) request(what string, client *clientv3.Client, do func(context.Context, *clientv3.Client) error) bool {
	return e.load.request(what, func(ctx context.Context) error {
		err := do(ctx, client)
		if err == nil {
			e.away = time.Time{}
			return nil
		}
		if e.away.IsZero() {
			e.away = time.Now()
		}
		if !e.load.restarts.Load() || !mayRestart(err) || time.Since(e.away) > awayAtMost {
			return err
		}
		if e.spare == nil {
			spare, dialErr := e.load.dialEtcd(func() {}, e.others...)
			if dialErr != nil {
				return errors.Join(err, dialErr)
			}
			e.spare = spare
		}
		return e.elsewhere(err, do)
	})
}

// elsewhere asks the other members. A write that was handed on to a leader that
// is just leaving hangs, and is not waited for to the end: another one is sent.
func (e *etcdClient) elsewhere(first error, do func(context.Context, *clientv3.Client) error) error {
	last := first
	for began := time.Now(); time.Since(began) < patience; {
		e.load.retries.Add(1)
		ctx, cancel := context.WithTimeout(context.Background(), attempt)
		last = do(ctx, e.spare)
		cancel()
		if last == nil || !mayRestart(last) {
			break
		}
		time.Sleep(keptEvery)
	}
	if last != nil {
		return fmt.Errorf("%w; and at the other members: %w", first, last)
	}
	return nil
}

// mayRestart says whether a failure can come of a restart. That one side did
// not accept the other's certificate can't.
func mayRestart(err error) bool {
	return !errors.Is(err, errAnother) && !strings.Contains(err.Error(), "x509: ") && !strings.Contains(err.Error(), "remote error: tls: ")
}

// dialEtcd makes a client of the members. Certificate and bundle are read for
// each connection anew.
func (l *Load) dialEtcd(dialled func(), members ...string) (*clientv3.Client, error) {
	var endpoints []string
	for _, member := range members {
		endpoints = append(endpoints, "https://"+member)
	}
	host, _, err := net.SplitHostPort(members[0])
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{
		Endpoints:       endpoints,
		MaxUnaryRetries: 1, // the first attempt is the only one
		Logger:          zap.NewNop(),
		TLS: &tls.Config{
			InsecureSkipVerify:   true, // VerifyConnection does, by the bundle of that moment
			VerifyConnection:     func(state tls.ConnectionState) error { return l.verify(state.PeerCertificates, host) },
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return Certificate(l.settings.Identity) },
		},
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			dialled()
			l.opened.Add(1)
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		})},
	})
}

// verify holds a chain against the bundle that is delivered now.
func (l *Load) verify(chain []*x509.Certificate, host string) error {
	roots, err := l.roots()
	if err != nil {
		return err
	}
	options := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool()}
	for _, between := range chain[1:] {
		options.Intermediates.AddCert(between)
	}
	_, err = chain[0].Verify(options)
	return err
}
