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
	"strconv"
	"strings"

	"github.com/rotunda-pki/rotunda/probe"
)

// What etcd's pages may cost. Its metrics are 150 KB, and more where they are
// extensive.
const (
	maxMembers = 256 << 10
	maxMetrics = 8 << 20
)

// healthOfEtcd asks the member itself three things over its client port.
// /health reads through a leader, which a member with a wrong peer certificate
// can still do: its leader came to it, while it can't go to others. So its
// peers must be connected too, each of those that the member list names.
//
// A server that demands a client certificate can't be asked without one.
func healthOfEtcd(ctx context.Context, _ Host, _ Target, spec probe.Spec) error {
	p := pagesOf(spec)
	defer p.close()
	err := p.read(ctx, "/health", "", maxHealth, readHealth)
	if refusal, ok := errors.AsType[*net.OpError](err); ok && refusal.Op == "remote error" && spec.Certificate == nil {
		return nil
	}
	if err != nil {
		return err
	}
	peers := etcdPeers{}
	if err := p.read(ctx, "/metrics", "", maxMetrics, peers.read); err != nil {
		return err
	}
	var members etcdMembers
	// The gateway may be switched off, or not let us in: then those peers
	// count that it has ever heard of.
	if err := p.read(ctx, "/v3/cluster/member/list", "{}", maxMembers, members.read); err != nil {
		return peers.allActive()
	}
	return members.connected(peers)
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

// read picks the peers out of a page of metrics.
func (p etcdPeers) read(status int, body io.Reader) error {
	if status != http.StatusOK {
		return fmt.Errorf("its metrics answer %d", status)
	}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		for metric, label := range etcdPeerMetrics {
			labels, ok := strings.CutPrefix(lines.Text(), metric)
			if !ok {
				continue
			}
			labels, number, ok := strings.Cut(labels, "} ")
			_, id, named := strings.Cut(labels, label)
			id, _, closed := strings.Cut(id, `"`)
			count, err := strconv.ParseFloat(number, 64)
			if !ok || !named || !closed || err != nil {
				return fmt.Errorf("its metrics are not understood: %s", quote(lines.Text()))
			}
			switch {
			case id == "0": // said before it gave its name
			case label == `Remote="`:
				p[id] += count
			default:
				p[id] += 0
			}
		}
	}
	return lines.Err()
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
