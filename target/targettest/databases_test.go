package targettest_test

import (
	"context"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// serves fails the test unless the server shows the credential's leaf, and
// lets the client in.
func serves(t *testing.T, s *targettest.Server, served, client *targettest.Credential) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), targettest.Patience)
	defer cancel()
	seen, err := probe.Handshake(ctx, probe.Spec{
		Address: s.Target.Address, ServerName: s.Target.ServerName, Preamble: s.Target.Preamble,
		Certificate: client.TLS(), ReadAcceptance: true, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen.Outcome != probe.Served || seen.Accepted != probe.Accepted || len(seen.Chain) == 0 || seen.Chain[0] != served.Fingerprints()[0].String() {
		t.Fatalf("%s: %+v\n%s", s.Target.Name, seen, s.Log())
	}
}

func TestPostgresAndStandby(t *testing.T) {
	a := targettest.NewAuthority(t, "a")
	delivery := func(c *targettest.Credential) *targettest.Delivery {
		d := targettest.NewDelivery(t, targettest.PostgresAccount())
		d.Switch(c, a.Root)
		return d
	}
	first, second, client := a.Issue(t, targettest.Order{}), a.Issue(t, targettest.Order{}), a.Issue(t, targettest.Order{})
	primary := targettest.Postgres(t, delivery(first), targettest.PostgresOptions{})
	standby := targettest.PostgresStandby(t, primary, delivery(second), delivery(client), targettest.PostgresOptions{})
	serves(t, primary, first, client)
	serves(t, standby, second, client)
	primary.Restart()
	serves(t, primary, first, client)
	if standing := targettest.PostgresSQL(t, standby, "SELECT pg_is_in_recovery()"); standing[0] != "t" {
		t.Fatalf("%v", standing)
	}
	standby.Kill()
	standby.Start()
	serves(t, standby, second, client)
}

func TestMariaDBAndReplica(t *testing.T) {
	a := targettest.NewAuthority(t, "a")
	delivery := func(c *targettest.Credential) *targettest.Delivery {
		d := targettest.NewDelivery(t, targettest.MariaDBAccount())
		d.Switch(c, a.Root)
		return d
	}
	first, second, client := a.Issue(t, targettest.Order{}), a.Issue(t, targettest.Order{}), a.Issue(t, targettest.Order{})
	primary := targettest.MariaDB(t, delivery(first), targettest.MariaDBOptions{})
	replica := targettest.MariaDBReplica(t, primary, delivery(second), delivery(client), targettest.MariaDBOptions{})
	serves(t, primary, first, client)
	serves(t, replica, second, client)
	primary.Restart()
	serves(t, primary, first, client)
}

func TestEtcdCluster(t *testing.T) {
	a := targettest.NewAuthority(t, "a")
	var deliveries []targettest.EtcdDeliveries
	leaf := a.Issue(t, targettest.Order{})
	for range 3 {
		d := targettest.NewDelivery(t, targettest.EtcdAccount())
		d.Switch(leaf, a.Root)
		deliveries = append(deliveries, targettest.EtcdDeliveries{Server: d, Peer: d})
	}
	members := targettest.EtcdCluster(t, deliveries, targettest.EtcdOptions{})
	for _, m := range members {
		serves(t, m, leaf, leaf)
	}
	members[0].Restart()
	serves(t, members[0], leaf, leaf)
}
