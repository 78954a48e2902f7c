package agent

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/probe"
)

// A client's agent shakes hands with a real Redis by the client's bundle: what
// can't be verified is told apart from what can't be reached.
func TestEdgesAreLookedAt(t *testing.T) {
	l := newLab(t)
	r := l.running("p1")
	l.steady("p1", 1)
	mute, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	check(t, err)
	t.Cleanup(func() { mute.Close() })
	look := func(server, address, name string) *api.EdgeLook {
		return &api.EdgeLook{Server: server, Address: address, ServerName: name, Kind: "redis"}
	}
	for id, c := range map[string]struct {
		root string
		want map[string]string // by server: the verdict and a word of the reason
	}{
		"c1": {"a", map[string]string{"good": "ok ", "wrong-name": "tls not other.lab.test", "closed": "path refused", "mute": "path timeout", "no-name": "path unreachable"}},
		"c2": {"b", map[string]string{"good": "tls no anchor of the bundle"}},
	} {
		l.want(id, func(d *api.DesiredPlacement) {
			d.Identity, d.Profile, d.BundleDigest = nil, nil, l.bundle(c.root).Digest().String()
			d.Edges = []*api.EdgeLook{look("good", r.address, "orders.lab.test")}
			if id == "c1" {
				d.Edges = append(d.Edges, look("wrong-name", r.address, "other.lab.test"), look("closed", silent(t), "orders.lab.test"),
					look("mute", mute.Addr().String(), "orders.lab.test"), look("no-name", "nobody.invalid:1", "nobody.invalid"))
			}
		})
		report := l.until(id, "with its edges", func(r *api.PlacementReport) bool { return len(r.GetEdges()) == len(c.want) })
		for _, edge := range report.Edges {
			var seen probe.Observation
			check(t, json.Unmarshal(edge.Evidence.Statement, &seen))
			verdict, words := probe.JudgeEdge(seen)
			want, word, _ := strings.Cut(c.want[edge.Server], " ")
			if string(verdict) != want || !strings.Contains(words+seen.Error, word) {
				t.Errorf("%s of %s: %s: %s; want %s: %s", edge.Server, id, verdict, words, want, word)
			}
			if seen.Bundle != report.BundleDigest || seen.Observer != "agent-1" {
				t.Errorf("%s of %s: by %q with bundle %s", edge.Server, id, seen.Observer, seen.Bundle)
			}
		}
	}
	// What the client does not trust yet it is seen to trust as soon as it has the bundle.
	l.want("c2", func(d *api.DesiredPlacement) { d.BundleDigest = l.bundle("a", "b").Digest().String() })
	l.until("c2", "with another bundle", func(r *api.PlacementReport) bool {
		var seen probe.Observation
		check(t, json.Unmarshal(r.GetEdges()[0].GetEvidence().GetStatement(), &seen))
		verdict, _ := probe.JudgeEdge(seen)
		return verdict == probe.EdgeFits
	})
}
