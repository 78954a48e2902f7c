package target

import (
	"strings"
	"testing"
)

// FuzzEtcdPages: whatever a member says, the reader neither fails badly nor
// calls a peer connected of which there is no line that says so.
func FuzzEtcdPages(f *testing.F) {
	f.Add("# HELP x\n"+`etcd_network_active_peers{Local="a",Remote="b"} 1`+"\n"+`etcd_network_peer_sent_bytes_total{To="b"} 1.5e+06`+"\n",
		`{"header":{"member_id":"10"},"members":[{"ID":"10","name":"m1"},{"ID":"11","name":"m2"}]}`)
	f.Add(`etcd_network_active_peers{Local="a",Remote="b"} 0`, `{"members":[]}`)
	f.Add(`etcd_network_peer_received_bytes_total{From="0"} 1`, `{"header":{"member_id":"1"},"members":[{"ID":"x","name":"m"}]}`)
	f.Fuzz(func(t *testing.T, metrics, list string) {
		peers := etcdPeers{}
		if _, err := peers.read(200, strings.NewReader(metrics)); err != nil {
			return
		}
		for id, count := range peers {
			if count >= 1 && !strings.Contains(metrics, "etcd_network_active_peers{") {
				t.Errorf("%q is connected, by %q", id, metrics)
			}
		}
		var members etcdMembers
		if members.read(200, strings.NewReader(list)) != nil {
			return
		}
		others := 0
		for _, member := range members.Members {
			if member.ID != members.Header.Member && member.Name != "" {
				others++
			}
		}
		if err := members.connected(etcdPeers{}); (err == nil) != (others == 0) {
			t.Errorf("%d others, none connected: %v", others, err)
		}
	})
}
