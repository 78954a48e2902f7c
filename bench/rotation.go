package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/measure"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// kind is a kind of server whose rotations are measured.
type kind struct {
	kind    fleet.TargetKind
	account string // that owns the key files; empty: the bench's own
	start   func(*rig, *targettest.Delivery) *targettest.Server
}

func kinds() []kind {
	type (
		rigged   = *rig
		delivery = *targettest.Delivery
		server   = *targettest.Server
	)
	return []kind{
		{fleet.TargetRedis, targettest.RedisAccount(), func(r rigged, d delivery) server { return targettest.Redis(r, d, targettest.RedisOptions{}) }},
		{fleet.TargetPostgres, targettest.PostgresAccount(), func(r rigged, d delivery) server { return targettest.Postgres(r, d, targettest.PostgresOptions{}) }},
		{fleet.TargetMariaDB, targettest.MariaDBAccount(), func(r rigged, d delivery) server { return targettest.MariaDB(r, d, targettest.MariaDBOptions{}) }},
		{fleet.TargetNATS, targettest.NATSAccount(), func(r rigged, d delivery) server { return targettest.NATS(r, d, targettest.NATSOptions{}) }},
		{fleet.TargetNginx, targettest.NginxAccount(), func(r rigged, d delivery) server { return targettest.Nginx(r, d, targettest.NginxOptions{}) }},
		{fleet.TargetHAProxy, targettest.HAProxyAccount(), func(r rigged, d delivery) server { return targettest.HAProxy(r, d, targettest.HAProxyOptions{}) }},
		{fleet.TargetMemcached, targettest.MemcachedAccount(), func(r rigged, d delivery) server { return targettest.Memcached(r, d, targettest.MemcachedOptions{}) }},
		{fleet.TargetMosquitto, targettest.MosquittoAccount(), func(r rigged, d delivery) server { return targettest.Mosquitto(r, d, targettest.MosquittoOptions{}) }},
		{fleet.TargetRabbitMQ, targettest.RabbitMQAccount(), func(r rigged, d delivery) server { return targettest.RabbitMQ(r, d, targettest.RabbitMQOptions{}) }},
	}
}

// rotations is how many are measured of each kind, after one that does not
// count, and how many bare reloads.
const rotations = 9

// observed is the part of a rotation that is the proof's window.
const observed = 300 * time.Millisecond

const kindDocuments = `apiVersion: rotunda/v1
kind: Service
metadata: {name: bench}
spec: {owner: {team: bench, contact: bench@bench.example, runbook: https://bench.example/runbook}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: both}
spec: {lifetime: 24h, usages: [serverAuth, clientAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: bench}
spec:
  rules:
    - {name: own-names, effect: allow, when: 'service == "bench" && names.dnsNames.all(n, n.endsWith(".bench.example"))'}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: {{ .Name }}}
spec:
  service: bench
  selector: {host: {{ .Kind }}}
  profile: both
  identity: {dnsNames: [{{ .Name }}.bench.example]}
  target: {kind: {{ .Kind }}, name: {{ .Name }}, address: "{{ .Address }}", clientAuth: {{ .ClientAuth }}}
  files: {directory: {{ .Directory }}, mode: "0600", formats: [pem, combined]{{ with .Owner }}, owner: {{ . }}{{ end }}}
`

const kindAgent = `servers: ["{{ .Servers }}"]
state: {{ .State }}
allow:
  directories: [{{ .Directory }}]{{ with .Owner }}
  users: [{{ . }}]{{ end }}
targets:
  {{ .Name }}: {{ .Control }}
`

// rotations measures, kind by kind, from the request for a rotation to the
// report that it was proven, less the proof's own window, beside a bare reload
// and the first handshake that shows its effect. The request is the API's; the
// start of the command line's process is not in it.
func (b *bench) rotations(ctx context.Context, only []string) ([]Result, error) {
	server, err := b.server(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	var results []Result
	for _, k := range kinds() {
		if len(only) > 0 && !slices.Contains(only, string(k.kind)) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: rotations of %s\n", k.kind)
		var one Result
		err := onRig(ctx, func(r *rig) (err error) {
			one, err = b.rotationsOf(r, k)
			return err
		})
		if err != nil {
			return results, fmt.Errorf("%s: %w", k.kind, err)
		}
		results = append(results, one)
	}
	return results, nil
}

func (b *bench) rotationsOf(r *rig, k kind) (Result, error) {
	result := Result{Name: "rotation to proof, less its window: " + string(k.kind), Unit: "ms", Target: "≤ 3 × a bare reload"}
	authority := targettest.NewAuthority(r, "bench")
	delivery := targettest.NewDelivery(r, k.account)
	delivery.Switch(authority.Issue(r, targettest.Order{}), authority.Root)
	server := k.start(r, delivery)
	var err error
	if result.Floor, err = bareReload(r, k.kind, authority, delivery, server); err != nil {
		return result, err
	}
	agent, err := b.adopt(r, k, delivery, server)
	if err != nil {
		return result, err
	}
	defer agent.stop()
	result.Value, err = b.rotate(r.ctx, string(k.kind))
	return result, err
}

// bareReload is the time, in ms, from the trigger to the first handshake that
// shows the new leaf, by the same adapter.
func bareReload(r *rig, kind fleet.TargetKind, authority *targettest.Authority, d *targettest.Delivery, s *targettest.Server) (float64, error) {
	adapter, err := target.Lookup(kind)
	if err != nil {
		return 0, err
	}
	var times []float64
	for range rotations {
		next := authority.Issue(r, targettest.Order{})
		d.Switch(next, authority.Root)
		began := time.Now()
		for _, act := range adapter.Plan(s.Target, target.Change{Leaf: true}) {
			loaded, err := adapter.Load(r.ctx, targettest.Host(nil), act)
			if err != nil {
				return 0, err
			}
			if loaded.Pending != "" {
				return 0, errors.New(loaded.Pending)
			}
		}
		for shown := false; !shown; {
			seen, err := probe.Handshake(r.ctx, probe.Spec{Address: s.Target.Address, Preamble: s.Target.Preamble, Now: time.Now})
			if err != nil {
				return 0, err
			}
			shown = seen.Leaf != nil && seen.Leaf.Fingerprint == pki.FingerprintOf(next.Leaf.Raw).String()
			if time.Since(began) > patience {
				return 0, fmt.Errorf("a bare reload was never seen: %s", seen.Error)
			}
		}
		times = append(times, float64(time.Since(began).Microseconds())/1000)
	}
	return measure.Median(times), nil
}

// adopt has an agent of its own take over the server's directory, and waits
// until what it delivered is proven.
func (b *bench) adopt(r *rig, k kind, d *targettest.Delivery, s *targettest.Server) (*process, error) {
	control, err := json.Marshal(controlOf(r, k.kind, s))
	if err != nil {
		return nil, err
	}
	dir := r.TempDir()
	fill := map[string]string{
		"ClientAuth": clientAuthOf(k.kind), "Name": string(k.kind), "Kind": string(k.kind), "Address": s.Target.Address, "Directory": d.Dir, "Servers": b.agents,
		"State": filepath.Join(dir, "agent"), "Owner": k.account, "Control": string(control),
	}
	documents, config, token := filepath.Join(dir, "fleet.yaml"), filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "token")
	for path, text := range map[string]string{documents: kindDocuments, config: kindAgent} {
		var filled strings.Builder
		if err := template.Must(template.New(path).Parse(text)).Execute(&filled, fill); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(filled.String()), 0o600); err != nil {
			return nil, err
		}
	}
	if err := b.rotunda(r.ctx, "apply", "--state", b.state(), "--prune", "--yes", "-f", documents); err != nil {
		return nil, err
	}
	created, err := b.token(r.ctx, string(k.kind))
	if err != nil {
		return nil, err
	}
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(created), &answer); err != nil {
		return nil, err
	}
	if err := os.WriteFile(token, []byte(answer.Token), 0o600); err != nil {
		return nil, err
	}
	agent, err := start(r.ctx, b.binary, "agent", "--config", config, "--token-file", token)
	if err != nil {
		return nil, err
	}
	if _, err := b.awaitProven(r.ctx, string(k.kind), 1); err != nil {
		agent.stop()
		return nil, err
	}
	return agent, nil
}

// clientAuthOf is what a kind makes of clients without a certificate: MariaDB
// leaves it to each account whether it needs one.
func clientAuthOf(kind fleet.TargetKind) string {
	if kind == fleet.TargetMariaDB {
		return "optional"
	}
	return "required"
}

// controlOf is a server's control path as agent.yaml has it.
func controlOf(r *rig, kind fleet.TargetKind, s *targettest.Server) map[string]any {
	c := s.Target.Control
	said := map[string]any{"kind": kind}
	for key, value := range map[string]string{"address": c.Address, "user": c.User, "pidFile": c.PIDFile, "program": c.Program} {
		if value != "" {
			said[key] = value
		}
	}
	if len(c.Arguments) > 0 {
		said["arguments"] = c.Arguments
	}
	if c.Password != nil {
		password, err := c.Password()
		if err != nil {
			r.Fatal(err)
		}
		path := filepath.Join(r.TempDir(), "password")
		targettest.Write(r, path, string(password), 0o600, "")
		said["passwordFile"] = path
	}
	return said
}

// rotate asks for rotations, one after the other, and times each.
func (b *bench) rotate(ctx context.Context, intent string) (float64, error) {
	operator := b.operator()
	var times []float64
	for i := range rotations + 1 {
		began := time.Now()
		if _, err := operator.Rotate(ctx, connect.NewRequest(&api.RotateRequest{Intent: intent, NewKey: true, Reason: "bench"})); err != nil {
			return 0, err
		}
		ended, err := b.awaitProven(ctx, intent, uint64(i)+2)
		if err != nil {
			return 0, err
		}
		if i > 0 {
			times = append(times, float64((ended.Sub(began)-observed).Microseconds())/1000)
		}
	}
	return measure.Median(times), nil
}
