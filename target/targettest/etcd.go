package targettest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// EtcdOptions is how an etcd is to run. The zero value is a cluster of one
// that demands client certificates.
type EtcdOptions struct {
	// Name of the target and the member. Empty: "etcd".
	Name string
	// Control names the plain listener for metrics as the control path.
	Control bool
	// NoClientAuth lets clients in without a certificate.
	NoClientAuth bool
	// Arguments are further ones of its command line; the last one counts.
	Arguments []string
}

// EtcdDeliveries is what a member is given: Server for its clients, Peer for
// the other members. They may be the same.
type EtcdDeliveries struct {
	Server, Peer *Delivery
}

// EtcdAccount is the account that etcd runs as in tests.
func EtcdAccount() string { return "" }

// Etcd runs a cluster of one.
func Etcd(t testing.TB, d EtcdDeliveries, opts EtcdOptions) *Server {
	t.Helper()
	return EtcdCluster(t, []EtcdDeliveries{d}, opts)[0]
}

// EtcdCluster runs one member for each of the deliveries, named NAME1, NAME2
// and so on where there are several, and returns when all answer. Each one's
// Target is that of its client port.
func EtcdCluster(t testing.TB, deliveries []EtcdDeliveries, opts EtcdOptions) []*Server {
	t.Helper()
	members := make([]*Server, len(deliveries))
	peers, plain, cluster := make([]string, len(members)), make([]string, len(members)), make([]string, len(members))
	for i, d := range deliveries {
		name := orDefault(opts.Name, "etcd")
		if len(members) > 1 {
			name = fmt.Sprintf("%s%d", name, i+1)
		}
		peers[i] = fmt.Sprintf("https://127.0.0.1:%d", Port(t))
		cluster[i] = name + "=" + peers[i]
		members[i] = &Server{
			Dir: Dir(t, name+"-"), Account: EtcdAccount(), t: t,
			Target: kindOf(t, fleet.TargetEtcd, target.Target{Name: name, Directory: d.Server.Dir, Address: Loopback(Port(t))}),
		}
		metrics := Loopback(Port(t))
		plain[i] = "http://" + metrics
		if opts.Control {
			members[i].Target.Control = &target.Control{Address: metrics}
		}
		members[i].foreign = func(ctx context.Context) error { _, err := asksPage(ctx, plain[i]+"/health"); return err }
	}
	for i, d := range deliveries {
		members[i].argv = etcdArguments(t, members[i], d, opts, peers[i], plain[i], strings.Join(cluster, ","))
	}
	// A member is ready once it has a leader, so all must start together.
	var starting errgroup.Group
	for i, m := range members {
		starting.Go(func() error {
			if err := errors.Join(m.start(), hasLeader(plain[i])); err != nil {
				return fmt.Errorf("start %s: %w\n%s", m.Target.Name, err, m.Log())
			}
			return nil
		})
	}
	if err := starting.Wait(); err != nil {
		t.Fatal(err)
	}
	return members
}

// hasLeader asks a member's plain listener until it is well.
func hasLeader(plain string) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	knock := time.NewTicker(20 * time.Millisecond)
	defer knock.Stop()
	for {
		status, err := asksPage(ctx, plain+"/health")
		if err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it has no leader: %d, %w", status, err)
		case <-knock.C:
		}
	}
}

func asksPage(ctx context.Context, url string) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

func etcdArguments(t testing.TB, s *Server, d EtcdDeliveries, opts EtcdOptions, peer, plain, cluster string) []string {
	client := "https://" + s.Target.Address
	return append([]string{
		Binary(t, "etcd"), "--name", s.Target.Name, "--data-dir", filepath.Join(s.Dir, "data"),
		"--listen-client-urls", client, "--advertise-client-urls", "https://localhost:" + portOf(t, s.Target.Address),
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--listen-metrics-urls", plain, "--initial-cluster", cluster, "--initial-cluster-state", "new",
		"--cert-file", d.Server.File("chain.pem"), "--key-file", d.Server.File("key.pem"),
		"--trusted-ca-file", d.Server.File("bundle.pem"), fmt.Sprintf("--client-cert-auth=%t", !opts.NoClientAuth),
		"--peer-cert-file", d.Peer.File("chain.pem"), "--peer-key-file", d.Peer.File("key.pem"),
		"--peer-trusted-ca-file", d.Peer.File("bundle.pem"), "--peer-client-cert-auth",
		"--heartbeat-interval", "50", "--election-timeout", "500", "--snapshot-count", "10000", "--log-level", "warn",
	}, opts.Arguments...)
}

// EtcdFromEnv runs an etcd that is configured by its environment alone, as its
// package's service is. The target's control path is its listener for metrics.
func EtcdFromEnv(t testing.TB, env []string, at target.Target) *Server {
	t.Helper()
	s := &Server{Dir: Dir(t, "etcd-"), Account: EtcdAccount(), t: t, argv: []string{Binary(t, "etcd")}, Target: kindOf(t, fleet.TargetEtcd, at)}
	for _, line := range env {
		if strings.HasPrefix(line, "ETCD_") {
			s.env = append(s.env, line)
		}
	}
	s.env = append(s.env, "ETCD_DATA_DIR="+filepath.Join(s.Dir, "data"), "ETCD_LOG_LEVEL=warn")
	s.foreign = func(ctx context.Context) error {
		_, err := asksPage(ctx, "http://"+at.Control.Address+"/health")
		return err
	}
	s.Start()
	return s
}
