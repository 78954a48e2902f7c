package load_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/demo/greeter"
	"github.com/rotunda-pki/rotunda/demo/load"
	"github.com/rotunda-pki/rotunda/demo/member"
	"github.com/rotunda-pki/rotunda/demo/papertest"
)

// TestCountsWhatHappens runs the clients against a real cluster whose
// certificates and keys move under them, and then against a member that is
// gone: nothing fails in the one, everything at that member in the other.
func TestCountsWhatHappens(t *testing.T) {
	office, root := papertest.New(t), t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	placements := []string{at("clients"), at("greeter")}
	for i := range 3 {
		placements = append(placements, at(fmt.Sprintf("client-%d", i)), at(fmt.Sprintf("peer-%d", i)))
	}
	deliver := func() {
		for _, directory := range placements {
			office.Deliver(t, directory)
		}
	}
	deliver()

	members, addresses := startCluster(t, at)
	server, err := greeter.Listen("127.0.0.1:0", at("greeter"))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	clients := load.Start(load.Settings{
		Identity: at("clients"), Etcd: addresses, Greeter: server.Address(), Greets: "localhost",
	})
	defer clients.Stop()
	for range 5 {
		atLeast(t, &clients.Counts, clients.Tally().Requests+200)
		deliver()
	}
	atLeast(t, &clients.Counts, clients.Tally().Requests+200)
	if tally := clients.Tally(); tally.Failed != 0 || tally.Reconnects != 0 {
		t.Fatalf("while certificates moved: %+v; %s", tally, strings.Join(clients.Failures(), "; "))
	}

	members[0].Close()
	deadline := time.After(20 * time.Second)
	for clients.Tally().Failed == 0 {
		select {
		case <-deadline:
			t.Fatalf("a member is gone and no request failed: %+v", clients.Tally())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// atLeast waits until so many requests were done.
func atLeast(t *testing.T, counts *load.Counts, requests int64) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for counts.Tally().Requests < requests {
		if time.Now().After(deadline) {
			t.Fatalf("the clients stand still at %+v", counts.Tally())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func startCluster(t *testing.T, at func(string) string) (members []*member.Member, addresses []string) {
	t.Helper()
	var cluster, peers []string
	for i := range 3 {
		peer := freeAddress(t)
		peers, addresses = append(peers, peer), append(addresses, freeAddress(t))
		cluster = append(cluster, fmt.Sprintf("m%d=https://%s", i, peer))
	}
	members = make([]*member.Member, 3)
	var starting sync.WaitGroup
	for i := range members {
		starting.Go(func() {
			var err error
			members[i], err = member.Start(context.Background(), member.Settings{
				Name: fmt.Sprintf("m%d", i), Data: at(fmt.Sprintf("data-%d", i)),
				ClientFiles: at(fmt.Sprintf("client-%d", i)), PeerFiles: at(fmt.Sprintf("peer-%d", i)),
				ClientListen: addresses[i], PeerListen: peers[i], Cluster: strings.Join(cluster, ","),
			})
			if err != nil {
				t.Errorf("member %d: %v", i, err)
			}
		})
	}
	starting.Wait()
	t.Cleanup(func() {
		for _, m := range members {
			m.Close()
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return members, addresses
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
