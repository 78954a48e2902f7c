// Package member runs one member of an etcd cluster inside a process of the
// demo, as its operators would run it: mutual TLS for clients and for peers,
// its files wherever Rotunda delivers them.
//
// etcd reads certificate and key at each handshake, and its CA file when it
// starts. So a renewal needs nothing of it, and a change of the bundle needs
// the restart that it can be told to do.
package member

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// Settings says who the member is and where everything lies.
type Settings struct {
	Name         string
	Data         string // directory
	ClientFiles  string // directory of the placement that its clients see
	PeerFiles    string // directory of the placement that its peers see
	ClientListen string // host:port
	PeerListen   string // host:port
	Cluster      string // name=https://host:port,... of all members' peers
}

// readyWithin is how long a member may take to find its cluster.
const readyWithin = 45 * time.Second

// Member is a running member.
type Member struct {
	settings Settings

	mu   sync.Mutex
	etcd *embed.Etcd
}

// Start starts the member and waits until it serves.
func Start(ctx context.Context, settings Settings) (*Member, error) {
	m := &Member{settings: settings}
	return m, m.start(ctx)
}

// Answer obeys one word: restart.
func (m *Member) Answer(ctx context.Context, word string) (string, error) {
	if word != "restart" {
		return "", fmt.Errorf("a member knows restart, not %q", word)
	}
	m.Close()
	if err := m.start(ctx); err != nil {
		return "", err
	}
	return "restarted", nil
}

// Close stops the member in good order.
func (m *Member) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.etcd != nil {
		m.etcd.Close()
		m.etcd = nil
	}
}

func (m *Member) start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	config, err := m.settings.config()
	if err != nil {
		return err
	}
	running, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	m.etcd = running
	select {
	case <-running.Server.ReadyNotify():
		return nil
	case err := <-running.Err():
		return fmt.Errorf("etcd gave up: %w", err)
	case <-time.After(readyWithin):
		return fmt.Errorf("etcd did not find its cluster within %s", readyWithin)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s Settings) config() (*embed.Config, error) {
	c := embed.NewConfig()
	c.Name, c.Dir = s.Name, s.Data
	var err error
	address := func(hostPort string) []url.URL {
		parsed, parseErr := url.Parse("https://" + hostPort)
		if parseErr != nil {
			err = errors.Join(err, parseErr)
			return nil
		}
		return []url.URL{*parsed}
	}
	c.ListenClientUrls, c.AdvertiseClientUrls = address(s.ClientListen), address(s.ClientListen)
	c.ListenPeerUrls, c.AdvertisePeerUrls = address(s.PeerListen), address(s.PeerListen)
	if err != nil {
		return nil, fmt.Errorf("read the addresses of %s: %w", s.Name, err)
	}
	c.InitialCluster, c.InitialClusterToken = s.Cluster, "rotunda-demo"
	c.ClientTLSInfo, c.PeerTLSInfo = files(s.ClientFiles), files(s.PeerFiles)
	c.EnableGRPCGateway = false // nobody here speaks JSON to etcd
	c.LogLevel, c.LogOutputs = "warn", []string{"stderr"}
	return c, nil
}

// files is mutual TLS with what lies in a placement's directory.
func files(directory string) transport.TLSInfo {
	current := filepath.Join(directory, "current")
	return transport.TLSInfo{
		CertFile:       filepath.Join(current, "chain.pem"),
		KeyFile:        filepath.Join(current, "key.pem"),
		TrustedCAFile:  filepath.Join(current, "bundle.pem"),
		ClientCertAuth: true,
	}
}
