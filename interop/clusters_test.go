package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/interop/load"
	"github.com/rotunda-pki/rotunda/interop/story"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// inStep is the stories of several processes: what one process goes through,
// its own row tells.
var inStep = []string{"renewals", "trust"}

// both is for members that are each other's clients.
func both(d *api.DesiredPlacement) { d.Profile.Usages = []string{"serverAuth", "clientAuth"} }

// redisReplicas is a master with two replicas, the replicas first.
func redisReplicas(t *testing.T) *story.Subject {
	s := story.NewSubject(t, fleet.TargetRedis)
	var recruits []story.Recruit
	for _, name := range []string{"replica-1", "replica-2", "master"} {
		recruits = append(recruits, story.Recruit{Name: name, Account: targettest.RedisAccount(), Timeout: patience, Dial: load.RedisRead, Change: both})
	}
	recruits[2].Dial = load.Redis
	s.Join(t, func(d []*targettest.Delivery) []*targettest.Server {
		master := targettest.Redis(t, d[2], targettest.RedisOptions{Name: "master"})
		return []*targettest.Server{
			targettest.Redis(t, d[0], targettest.RedisOptions{Name: "replica-1", ReplicaOf: master}),
			targettest.Redis(t, d[1], targettest.RedisOptions{Name: "replica-2", ReplicaOf: master}),
			master,
		}
	}, recruits...)
	s.Links = func(t *testing.T, _ *story.Member) { relinkRedis(t, s) }
	return s
}

// relinkRedis closes the links to the master and waits until both replicas
// have one again: an old one would survive whatever the certificates say.
func relinkRedis(t *testing.T, s *story.Subject) {
	t.Helper()
	before := askRedis(t, s.Members[2].Server, "INFO stats")
	askRedis(t, s.Members[2].Server, "CLIENT KILL TYPE replica")
	until(t, "both replicas are linked again", func() error {
		for _, replica := range s.Members[:2] {
			if info := askRedis(t, replica.Server, "INFO replication"); !strings.Contains(info, "master_link_status:up") {
				return fmt.Errorf("%s: %s", replica.Name, info)
			}
		}
		if after := askRedis(t, s.Members[2].Server, "INFO stats"); resyncs(after) < resyncs(before)+2 {
			return fmt.Errorf("only %d links were made anew", resyncs(after)-resyncs(before))
		}
		return nil
	})
}

// resyncs counts the links that a master ever accepted.
func resyncs(info string) (n int) {
	for _, field := range []string{"sync_full:", "sync_partial_ok:"} {
		var count int
		if _, rest, ok := strings.Cut(info, field); ok {
			if _, err := fmt.Sscan(rest, &count); err == nil {
				n += count
			}
		}
	}
	return n
}

// askRedis asks over the unix socket, as an administrator.
func askRedis(t *testing.T, server *targettest.Server, command string) string {
	t.Helper()
	conn, err := net.DialTimeout("unix", server.Target.Control.Address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil || strings.HasPrefix(line, "-") {
		t.Fatalf("%s: %q, %v", command, line, err)
	}
	var size int
	if _, err := fmt.Sscanf(line, "$%d", &size); err != nil {
		return line // a number
	}
	var answer strings.Builder
	for answer.Len() < size {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		answer.WriteString(line)
	}
	return answer.String()
}

// postgresStandby is a primary with a standby that streams from it, the standby
// first; what the standby shows the primary is a placement of its own.
func postgresStandby(t *testing.T) *story.Subject {
	login := load.Login{User: targettest.PostgresApp, Password: targettest.PostgresPassword, Database: "postgres"}
	account := targettest.PostgresAccount()
	s := story.NewSubject(t, fleet.TargetPostgres)
	s.Join(t, func(d []*targettest.Delivery) []*targettest.Server {
		primary := targettest.Postgres(t, d[1], targettest.PostgresOptions{Name: "primary"})
		identity := &targettest.Delivery{Dir: s.Members[0].IdentityDir()}
		return []*targettest.Server{targettest.PostgresStandby(t, primary, d[0], identity, targettest.PostgresOptions{}), primary}
	},
		story.Recruit{Name: "standby", Account: account, Timeout: patience, Dial: load.Standby(login), Identity: true},
		story.Recruit{Name: "primary", Account: account, Timeout: patience, Dial: load.Postgres(login)},
	)
	s.Links = func(t *testing.T, _ *story.Member) { relinkPostgres(t, s.Members[1].Server) }
	return s
}

// relinkPostgres ends the walsender and waits for another that streams.
func relinkPostgres(t *testing.T, primary *targettest.Server) {
	t.Helper()
	const senders = "SELECT pid FROM pg_stat_replication WHERE state = 'streaming'"
	var before []string
	until(t, "the standby streams", func() error {
		if before = targettest.PostgresSQL(t, primary, senders); len(before) != 1 {
			return fmt.Errorf("walsenders: %q", before)
		}
		return nil
	})
	targettest.PostgresSQL(t, primary, "SELECT pg_terminate_backend("+before[0]+")")
	until(t, "the standby streams again", func() error {
		if now := targettest.PostgresSQL(t, primary, senders); len(now) != 1 || now[0] == before[0] {
			return fmt.Errorf("walsenders: %q, was %q", now, before)
		}
		return nil
	})
}

// etcdCluster is three members.
func etcdCluster(t *testing.T) *story.Subject {
	s := story.NewSubject(t, fleet.TargetEtcd)
	var recruits []story.Recruit
	for _, name := range []string{"etcd1", "etcd2", "etcd3"} {
		recruits = append(recruits, story.Recruit{
			Name: name, Account: targettest.EtcdAccount(), Timeout: patience, Change: both, Together: true,
			Dial: func(address string) load.Dialer { return load.Etcd(address) },
		})
	}
	s.Join(t, func(deliveries []*targettest.Delivery) []*targettest.Server {
		var d []targettest.EtcdDeliveries
		for _, one := range deliveries {
			d = append(d, targettest.EtcdDeliveries{Server: one, Peer: one})
		}
		return targettest.EtcdCluster(t, d, targettest.EtcdOptions{Control: true})
	}, recruits...)
	s.Links = func(t *testing.T, m *story.Member) {
		if err := wellEtcd(t.Context(), s, m); err != nil {
			t.Fatal(err)
		}
	}
	s.Whole = func() error { return wellEtcd(t.Context(), s, s.Members[0]) }
	s.Order = func(t *testing.T) []*story.Member { return leaderLast(t, s.Members) }
	return s
}

// wellEtcd waits until a write through this member alone succeeds, and every
// member says that it has a leader and all its peers: only then may the next
// one be restarted.
func wellEtcd(ctx context.Context, s *story.Subject, m *story.Member) error {
	return within(m.Name+" takes writes, and all are well", func() error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		session, err := m.Dial(ctx, s.Load.Config())
		if err != nil {
			return err
		}
		defer func() { _ = session.Close() }()
		for _, member := range s.Members {
			if err := s.Adapter.Health(ctx, target.Host{}, member.Server.Target, probe.Spec{}); err != nil {
				return err
			}
		}
		return session.Request(ctx)
	})
}

// leaderLast puts the leader at the end.
func leaderLast(t *testing.T, members []*story.Member) []*story.Member {
	t.Helper()
	var order, leaders []*story.Member
	for _, m := range members {
		response, err := http.Get("http://" + m.Server.Target.Control.Address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(page), "\netcd_server_is_leader 1") {
			leaders = append(leaders, m)
		} else {
			order = append(order, m)
		}
	}
	return append(order, leaders...)
}

// clusterLoad is clients of all members, which send what failed once more.
func clusterLoad(s *story.Subject) load.Options {
	var addresses []string
	for _, m := range s.Members {
		addresses = append(addresses, m.Server.Target.Address)
	}
	o := slowLoad(s)
	o.Dial, o.Retry, o.RetryNew, o.Backoff = load.Etcd(addresses...), true, true, 300*time.Millisecond
	return o
}

// masterLoad is clients of the last member, which takes writes.
func masterLoad(s *story.Subject) load.Options {
	o := databaseLoad(s)
	o.Dial = s.Members[len(s.Members)-1].Dial
	return o
}

// until asks again until there is no error.
func until(t *testing.T, what string, ask func() error) {
	t.Helper()
	if err := within(what, ask); err != nil {
		t.Fatal(err)
	}
}

// within asks again until there is no error, for so long.
func within(what string, ask func() error) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("never: %s: %w", what, err)
		}
		time.Sleep(20 * time.Millisecond) // the pace of asking
	}
}
