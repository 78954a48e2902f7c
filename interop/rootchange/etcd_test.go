package rootchange

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/interop/lab"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// hosts are those of the agents.
var hosts = []string{"h1", "h2", "h3"}

// backoff is how long clients wait before they send a request once more.
var backoff = map[string]time.Duration{"etcd": 300 * time.Millisecond}

// TestMain lets the test's own binary be the command that restarts a member of
// etcd.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == lab.BellArgument {
		if err := lab.Ring(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runEtcd starts three members, mutual TLS between them, and hangs a bell for
// each: it reads its CA files when it starts.
func (f *fleet) runEtcd() {
	var deliveries []targettest.EtcdDeliveries
	for _, p := range f.places[7:10] {
		d := &targettest.Delivery{Dir: p.dir(f)}
		deliveries = append(deliveries, targettest.EtcdDeliveries{Server: d, Peer: d})
	}
	f.etcd = targettest.EtcdCluster(f.t, deliveries, targettest.EtcdOptions{Control: true})
	for i, host := range hosts {
		bell, err := lab.Hang(filepath.Join(f.dir, host, "bell"), func() error { f.etcd[i].Restart(); f.rings[i].Add(1); return nil })
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(func() { _ = bell.Close() })
		argv, err := bell.Command()
		if err != nil {
			f.t.Fatal(err)
		}
		f.commands[host] = map[string]any{"restart-etcd": map[string]any{"argv": argv, "timeout": "60s"}}
	}
}

func (f *fleet) etcdAddresses() (all []string) {
	for _, member := range f.etcd {
		all = append(all, member.Target.Address)
	}
	return all
}

// rung is how often each member was restarted so far.
func (f *fleet) rung() (all [3]int64) {
	for i := range f.rings {
		all[i] = f.rings[i].Load()
	}
	return all
}

// peered waits until every member says that it is connected to both others: a
// member without its peers swallows requests.
func (f *fleet) peered() {
	f.t.Helper()
	for _, member := range f.etcd {
		f.until(member.Target.Name+" has its peers", func() error {
			page, err := fetch("http://" + member.Target.Control.Address + "/metrics")
			if err != nil {
				return err
			}
			active := 0
			for line := range strings.Lines(page) {
				if strings.HasPrefix(line, "etcd_network_active_peers{") && strings.HasSuffix(line, " 1\n") {
					active++
				}
			}
			if active != len(f.etcd)-1 || !strings.Contains(page, "\netcd_server_has_leader 1\n") {
				return fmt.Errorf("%d peers are active", active)
			}
			return nil
		})
	}
}

func fetch(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	page, err := io.ReadAll(response.Body)
	return string(page), errors.Join(err, response.Body.Close())
}
