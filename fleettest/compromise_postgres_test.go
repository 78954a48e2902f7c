package fleettest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

const stolenDocuments = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: shop}
spec: {owner: {team: t, contact: t@fleet.example, runbook: "https://fleet.example/shop"}}
---
apiVersion: rotunda/v1
kind: Service
metadata: {name: ledger}
spec: {owner: {team: t, contact: t@fleet.example, runbook: "https://fleet.example/ledger"}, clients: [shop]}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: client}
spec: {lifetime: 24h, usages: [clientAuth], grace: 1s}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: database}
spec: {lifetime: 24h, usages: [serverAuth], grace: 1s, revocation: {crl: true}}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: own}
spec: {rules: [{name: own, effect: allow, when: 'service == "shop" || service == "ledger"'}]}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: shop}
spec:
  service: shop
  selector: {role: shop}
  profile: client
  identity: {dnsNames: [shop.fleet.example]}
  files: {directory: SHOP}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: ledger}
spec:
  service: ledger
  selector: {role: ledger}
  profile: database
  identity: {dnsNames: [localhost], ipAddresses: ["127.0.0.1"]}
  target: TARGET
  files: {directory: LEDGER, owner: "OWNER", mode: "0600"}
  proof: {level: LEVEL, observe: 100ms}
`

// A client's key is stolen and its thief is connected to a PostgreSQL. Afterwards the
// client works with a new key, the thief is thrown out and does not come back, and
// the database was shown to refuse what is revoked.
func TestThiefIsThrownOutOfPostgres(t *testing.T) {
	p := NewPlane(t)
	tree := targettest.Dir(t, "fleet-")
	documents := strings.NewReplacer("SHOP", filepath.Join(tree, "shop"), "LEDGER", filepath.Join(tree, "ledger"), "OWNER", targettest.PostgresAccount()).Replace(stolenDocuments)
	host := func(role string) *Host {
		h := p.NewHost(map[string]string{"role": role})
		h.Config.Allow.Directories = []string{tree}
		if account := targettest.PostgresAccount(); account != "" {
			h.Config.Allow.Users = []string{account}
		}
		return h
	}
	shop, ledger := host("shop"), host("ledger")
	p.Apply(strings.NewReplacer("TARGET", "{kind: files}", "LEVEL", "delivered").Replace(documents))
	shop.Start()
	ledger.Start()
	p.Await("first certificates and lists", func(now []*api.PlacementStatus) bool {
		_, err := os.Stat(filepath.Join(tree, "ledger", "current", "crl.pem"))
		return err == nil && Steady(2, 1)(now)
	})
	d := &targettest.Delivery{Dir: filepath.Join(tree, "ledger")}
	database := targettest.Postgres(t, d, targettest.PostgresOptions{Config: []string{"ssl_crl_file = '" + d.File("crl.pem") + "'"}})
	targettest.PostgresSQL(t, database, "GRANT pg_signal_backend TO "+targettest.PostgresUser)
	ledger.Stop()
	password := filepath.Join(p.Dir, "password")
	p.must(os.WriteFile(password, []byte(targettest.PostgresPassword), 0o600))
	control := database.Target.Control
	ledger.Config.Targets = map[string]agent.TargetConfig{"postgres": {Kind: "postgres", Address: control.Address, User: control.User, PasswordFile: password, PIDFile: control.PIDFile}}
	ledger.Start()
	p.Apply(strings.NewReplacer("TARGET", `{kind: postgres, name: postgres, address: "`+database.Target.Address+`", clientAuth: required}`, "LEVEL", "proven").Replace(documents))
	p.Await("the database proven", func(now []*api.PlacementStatus) bool {
		for _, one := range now {
			if one.Intent == "ledger" && one.Level == api.Level_LEVEL_PROVEN && one.State == api.State_STATE_STEADY {
				return true
			}
		}
		return false
	})

	loot := filepath.Join(p.Dir, "loot")
	p.must(os.CopyFS(loot, os.DirFS(filepath.Join(tree, "shop", "current"))))
	p.must(os.Chmod(filepath.Join(loot, "key.pem"), 0o600))
	thief, err := login(t, database, loot)
	p.must(err)
	begun, err := p.Compromise(t.Context(), Operator, &api.CompromiseRequest{Service: "shop", Note: "its key was copied"})
	p.must(err)
	over := awaitCompromise(p, begun.Compromise.Id)
	t.Logf("contained after %s, recovered from after %s", over.ContainedAt.AsTime().Sub(over.BegunAt.AsTime()), over.RecoveredAt.AsTime().Sub(over.BegunAt.AsTime()))
	if _, err := thief.Exec(t.Context(), "SELECT 1").ReadAll(); err == nil {
		t.Error("the thief's connection lives on")
	}
	again, err := login(t, database, loot)
	for deadline := time.Now().Add(Patience); errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE); { // before the alert was read that says why
		if time.Now().After(deadline) {
			t.Fatalf("the thief is never told why: %v", err)
		}
		again, err = login(t, database, loot)
	}
	if err == nil {
		_ = again.Close(t.Context())
		t.Error("the thief is back")
	} else if !strings.Contains(err.Error(), "certificate revoked") && !strings.Contains(err.Error(), "revoked certificate") {
		t.Errorf("the thief is refused for another reason: %v", err)
	}
	client, err := login(t, database, filepath.Join(tree, "shop", "current"))
	if err != nil {
		t.Fatalf("the client is cut off: %v", err)
	}
	_ = client.Close(t.Context())
	steps := map[string]string{}
	for _, step := range over.Steps {
		steps[step.Name] = fmt.Sprintf("%d of %d", step.Done, step.Of)
	}
	for name, want := range map[string]string{"revoked": "1 of 1", "on the lists": "1 of 1", "lists in use": "1 of 1", "sessions closed": "1 of 1", "new keys in use": "1 of 1"} {
		if steps[name] != want {
			t.Errorf("%s: %s, want %s", name, steps[name], want)
		}
	}
	if len(over.Remains) != 0 {
		t.Errorf("somebody takes it all the same: %v", over.Remains)
	}
}

// login opens a connection as the application, by the certificate in a directory.
func login(t *testing.T, database *targettest.Server, dir string) (*pgconn.PgConn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	host, port, _ := strings.Cut(database.Target.Address, ":")
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=postgres sslmode=verify-ca sslrootcert=%s sslcert=%s sslkey=%s",
		host, port, targettest.PostgresApp, filepath.Join(dir, "bundle.pem"), filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")))
	if err != nil {
		t.Fatal(err)
	}
	config.Password = targettest.PostgresPassword
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "SELECT 1").ReadAll(); err != nil {
		return nil, err
	}
	return conn, nil
}

// awaitCompromise waits until a compromise is over.
func awaitCompromise(p *Plane, id string) *api.Compromise {
	p.t.Helper()
	deadline := time.After(Patience)
	for {
		_, next := p.Changed()
		list, err := p.ListCompromises(p.t.Context(), Operator, &api.ListCompromisesRequest{Id: id})
		p.must(err)
		if one := list.Compromises[0]; one.EndedAt != nil {
			return one
		}
		select {
		case <-next:
		case <-time.After(time.Second): // what time alone brings
		case <-deadline:
			p.t.Fatalf("not over within %s: %v", Patience, list.Compromises[0])
		}
	}
}
