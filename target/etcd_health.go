package target

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// What etcd's pages may cost. Its metrics are 150 KB, and more where they are
// extensive.
const (
	maxMembers = 256 << 10
	maxMetrics = 8 << 20
)

// healthOfEtcd asks the member itself. /health reads through a leader, which a
// member with a wrong peer certificate can still do: its leader came to it,
// while it can't go to others. So its peers must be connected too.
//
// It is asked over the control path, else over the port that the proof looks
// at. Without a certificate where one is demanded, and at a peer's port, which
// has no such pages, that it answers is all that can be seen.
func healthOfEtcd(ctx context.Context, _ Host, t Target, spec probe.Spec) error {
	if t.Control != nil && t.Control.Address != "" {
		p := plainPages(t.Control)
		defer p.close()
		if err := p.read(ctx, "/health", "", maxHealth, readHealth); err != nil {
			return err
		}
		_, peers, err := p.etcdMetrics(ctx)
		return errors.Join(err, peers.allActive())
	}
	p := pagesOf(spec)
	defer p.close()
	absent := false
	err := p.read(ctx, "/health", "", maxHealth, func(status int, body io.Reader) error {
		if absent = status == http.StatusNotFound; absent {
			return nil
		}
		return readHealth(status, body)
	})
	if refusal, ok := errors.AsType[*net.OpError](err); ok && refusal.Op == "remote error" && spec.Certificate == nil {
		return nil
	}
	if err != nil || absent {
		return err
	}
	return p.etcdPeersConnected(ctx)
}

// etcdPeersConnected holds the peers that are connected against the member
// list. Where the gateway, which has it, is off or does not let us in, those
// count that the member has ever heard of.
func (p *pages) etcdPeersConnected(ctx context.Context) error {
	_, peers, err := p.etcdMetrics(ctx)
	if err != nil {
		return err
	}
	var members etcdMembers
	if err := p.read(ctx, "/v3/cluster/member/list", "{}", maxMembers, members.read); err != nil {
		return peers.allActive()
	}
	return members.connected(peers)
}

func (p *pages) etcdMetrics(ctx context.Context) (version string, peers etcdPeers, err error) {
	peers = etcdPeers{}
	err = p.read(ctx, "/metrics", "", maxMetrics, func(status int, body io.Reader) error {
		version, err = peers.read(status, body)
		return err
	})
	return version, peers, err
}

// contactEtcd looks at the plain listener for metrics and health, the only
// control path that etcd has. Nothing is told to it.
func contactEtcd(ctx context.Context, _ Host, t Target) (Contact, error) {
	if t.Control.Address == "" || filepath.IsAbs(t.Control.Address) {
		return Contact{}, fault.New(fault.Invalid, "target %s: etcd's control path is a host and port of loopback", t.Name).
			WithRemedy("start etcd with --listen-metrics-urls http://127.0.0.1:2381 and name 127.0.0.1:2381 as targets.%s.address in agent.yaml, or remove it: etcd needs none", t.Name)
	}
	p := plainPages(t.Control)
	defer p.close()
	version, _, err := p.etcdMetrics(ctx)
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return Contact{}, t.unreached(ctx, dial)
	}
	if err == nil && version == "" {
		err = errors.New("it has metrics, and not etcd's")
	}
	switch {
	case err == nil:
		return Contact{Product: "etcd", Version: version}, nil
	case timedOut(err):
		return Contact{}, fault.New(fault.Unavailable, "target %s: no answer in time at its control path %s", t.Name, t.Control.Address).
			WithRemedy("see whether it hangs; if it does not, another product listens there")
	}
	return Contact{}, fault.Wrap(fault.Invalid, err, "target %s: what answers at its control path %s is not etcd's listener for metrics", t.Name, t.Control.Address).
		WithRemedy("start etcd with --listen-metrics-urls http://127.0.0.1:2381 and name 127.0.0.1:2381 as targets.%s.address in agent.yaml", t.Name)
}

func timedOut(err error) bool {
	late, ok := errors.AsType[net.Error](err)
	return ok && late.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// etcdPeers is how many connections this member made to each peer, by its ID
// in hex. A peer that it never reached has no line of its own, but shows in the
// traffic, if it reached this one.
type etcdPeers map[string]float64

// The metrics that name peers, and the label that does.
var etcdPeerMetrics = map[string]string{
	"etcd_network_active_peers{":              `Remote="`,
	"etcd_network_peer_sent_bytes_total{":     `To="`,
	"etcd_network_peer_received_bytes_total{": `From="`,
}

// read picks the peers and the version out of a page of metrics.
func (p etcdPeers) read(status int, body io.Reader) (version string, err error) {
	if status != http.StatusOK {
		return "", fmt.Errorf("its metrics answer %d", status)
	}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), `etcd_server_version{server_version="`); ok {
			version, _, _ = strings.Cut(text, `"`)
		}
		for metric, label := range etcdPeerMetrics {
			if labels, ok := strings.CutPrefix(lines.Text(), metric); ok && !p.add(labels, label) {
				return "", fmt.Errorf("its metrics are not understood: %s", quote(lines.Text()))
			}
		}
	}
	return version, lines.Err()
}

// add counts one line, like Local="1a",Remote="2b"} 1.
func (p etcdPeers) add(line, label string) bool {
	labels, number, ok := strings.Cut(line, "} ")
	_, id, named := strings.Cut(labels, label)
	id, _, closed := strings.Cut(id, `"`)
	count, err := strconv.ParseFloat(number, 64)
	if !ok || !named || !closed || err != nil {
		return false
	}
	switch {
	case id == "0": // said before it gave its name
	case label == `Remote="`:
		p[id] += count
	default:
		p[id] += 0 // heard of
	}
	return true
}

func (p etcdPeers) allActive() error {
	for id, count := range p {
		if count < 1 {
			return fmt.Errorf("it has no connection to its peer %s; if that member was removed, restart this one or switch the gRPC gateway on, by which the agent sees who is a member", id)
		}
	}
	return nil
}

// etcdMembers is the member list as the JSON gateway has it: IDs are decimal
// texts.
type etcdMembers struct {
	Header struct {
		Member string `json:"member_id"`
	} `json:"header"`
	Members []struct {
		ID   string `json:"ID"`
		Name string `json:"name"`
	} `json:"members"`
}

func (m *etcdMembers) read(status int, body io.Reader) error {
	if status != http.StatusOK {
		return fmt.Errorf("its member list answers %d", status)
	}
	if err := json.NewDecoder(body).Decode(m); err != nil {
		return err
	}
	if len(m.Members) == 0 {
		return errors.New("its member list is empty")
	}
	return nil
}

// connected says whether each other member is connected. One that has no name
// was added and has yet to start.
func (m *etcdMembers) connected(peers etcdPeers) error {
	for _, member := range m.Members {
		if member.ID == m.Header.Member || member.Name == "" {
			continue
		}
		id, err := strconv.ParseUint(member.ID, 10, 64)
		if err != nil {
			return fmt.Errorf("its member list is not understood: ID %s", quote(member.ID))
		}
		if peers[strconv.FormatUint(id, 16)] < 1 {
			return fmt.Errorf("it has no connection to its peer %s", member.Name)
		}
	}
	return nil
}
