package rootchange

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/interop/eye"
	"github.com/rotunda-pki/rotunda/interop/load"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// place is where a certificate lives: an intent of one placement.
type place struct {
	intent, service, host, profile, owner string
	kind, cluster                         string
	server                                *targettest.Server // nil: files alone
	restart                               string             // the command of agent.yaml
}

// fleet is the servers of a domain, and the clients at work on them.
type fleet struct {
	*domain
	places                  []*place
	master, replica         *targettest.Server
	primary, standby, nginx *targettest.Server
	etcd                    []*targettest.Server
	rings                   [3]atomic.Int64 // how often each member of etcd was restarted
	loads                   map[string]*load.Load
	heard                   map[string]int64 // requests of each load, when it was counted last
}

const head = `
apiVersion: rotunda/v1
kind: Profile
metadata: {name: member}
spec: {lifetime: 12h, renewAt: 0.5, rideOut: 2h, keyAge: 24h, grace: 1h, usages: [serverAuth, clientAuth]}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: server}
spec: {lifetime: 12h, renewAt: 0.5, rideOut: 2h, keyAge: 24h, grace: 1h, usages: [serverAuth]}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: client}
spec: {lifetime: 12h, renewAt: 0.5, rideOut: 2h, keyAge: 24h, grace: 1h, usages: [clientAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: lab}
spec:
  rules:
    - {name: local, effect: allow, when: 'names.dnsNames == ["localhost"] && names.ipAddresses.all(a, a == "127.0.0.1")'}
`

// documents declares the places: at first nothing is proven, for no server
// runs before it has a certificate.
func (f *fleet) documents() string {
	var b strings.Builder
	b.WriteString(head)
	for service, clients := range map[string]string{"redis": "[load]", "postgres": "[load, standby]", "nginx": "[load]", "etcd": "[load, etcd]", "load": "[]", "standby": "[]"} {
		fmt.Fprintf(&b, "---\napiVersion: rotunda/v1\nkind: Service\nmetadata: {name: %s}\nspec: {owner: {team: lab, contact: lab@lab.test, runbook: https://lab.test}, clients: %s}\n", service, clients)
	}
	for _, p := range f.places {
		at := fmt.Sprintf("kind: %s, name: %s", p.kind, p.name())
		proof := "  proof: {level: delivered}\n"
		if p.server == nil && p.kind != "files" {
			at += fmt.Sprintf(", address: %q, clientAuth: required", f.listen[3]) // nobody is there yet
		}
		if p.server != nil {
			at += fmt.Sprintf(", address: %q, clientAuth: required", p.server.Target.Address)
			timeout := "10s"
			if p.restart != "" {
				timeout = "30s" // a member has to find its peers first
			}
			proof = "  proof: {level: proven, observe: 300ms, timeout: " + timeout + "}\n"
		}
		if p.cluster != "" {
			at += ", cluster: " + p.cluster
		}
		if p.restart != "" && p.server != nil {
			at += ", restartCommand: " + p.restart
		}
		owner := ""
		if p.owner != "" {
			owner = ", owner: " + p.owner
		}
		fmt.Fprintf(&b, "---\napiVersion: rotunda/v1\nkind: Intent\nmetadata: {name: %s}\nspec:\n  service: %s\n  selector: {host: %s}\n  profile: %s\n"+
			"  identity: {dnsNames: [localhost], ipAddresses: [127.0.0.1]}\n  target: {%s}\n  files: {directory: %q, mode: \"0600\"%s}\n%s",
			p.intent, p.service, p.host, p.profile, at, p.dir(f), owner, proof)
	}
	return b.String()
}

func (p *place) name() string {
	if p.server != nil {
		return p.server.Target.Name
	}
	return p.intent
}

func (p *place) dir(f *fleet) string { return f.path(p.host + "/" + p.intent) }

// start makes the fleet: the agents deliver first certificates, the servers
// start with those, and from then on everything has to be proven.
func start(t *testing.T) *fleet {
	f := &fleet{domain: found(t), loads: map[string]*load.Load{}, heard: map[string]int64{}}
	f.places = []*place{
		{intent: "redis-master", service: "redis", host: "h1", profile: "member", owner: "redis", kind: "redis", cluster: "cache"},
		{intent: "redis-replica", service: "redis", host: "h2", profile: "member", owner: "redis", kind: "redis", cluster: "cache"},
		{intent: "pg-primary", service: "postgres", host: "h1", profile: "server", owner: "postgres", kind: "postgres", cluster: "orders"},
		{intent: "pg-standby", service: "postgres", host: "h2", profile: "server", owner: "postgres", kind: "postgres", cluster: "orders"},
		{intent: "pg-identity", service: "standby", host: "h2", profile: "client", owner: "postgres", kind: "files"},
		{intent: "nginx", service: "nginx", host: "h1", profile: "server", kind: "nginx"},
		{intent: "load", service: "load", host: "h1", profile: "client", kind: "files"},
		{intent: "etcd1", service: "etcd", host: "h1", profile: "member", kind: "etcd", cluster: "config", restart: "restart-etcd"},
		{intent: "etcd2", service: "etcd", host: "h2", profile: "member", kind: "etcd", cluster: "config", restart: "restart-etcd"},
		{intent: "etcd3", service: "etcd", host: "h3", profile: "member", kind: "etcd", cluster: "config", restart: "restart-etcd"},
	}
	f.apply(f.documents())
	for _, host := range hosts {
		if err := os.Mkdir(f.path(host), 0o755); err != nil {
			t.Fatal(err)
		}
		f.enrol(host)
	}
	for _, p := range f.places {
		f.until(p.intent+" is delivered", func() error { _, err := os.Stat(filepath.Join(p.dir(f), "current", "cert.pem")); return err })
	}
	f.run()
	for host, agent := range f.agents {
		f.configure(host)
		agent.kill()
		if err := agent.start(); err != nil {
			t.Fatal(err)
		}
	}
	f.apply(f.documents())
	f.rotunda("rotate", "--all", "--over", "1s")
	f.until("all is proven", func() error {
		text, err := f.try("status", "-o", "json")
		if proven := strings.Count(text, `"level": "proven"`); err == nil && proven < 8 {
			err = fmt.Errorf("%d are proven", proven)
		}
		return err
	})
	f.employ()
	return f
}

// run starts the servers.
func (f *fleet) run() {
	t := f.t
	at := func(i int) *targettest.Delivery { return &targettest.Delivery{Dir: f.places[i].dir(f)} }
	const rights = "+config|set +config|get +info +ping +client|kill"
	f.master = targettest.Redis(t, at(0), targettest.RedisOptions{Name: "master", Rights: rights})
	f.replica = targettest.Redis(t, at(1), targettest.RedisOptions{Name: "replica", ReplicaOf: f.master, Rights: rights})
	f.primary = targettest.Postgres(t, at(2), targettest.PostgresOptions{Name: "primary"})
	targettest.PostgresSQL(t, f.primary, "GRANT pg_signal_backend TO "+targettest.PostgresUser)
	targettest.PostgresSQL(t, f.primary, "ALTER SYSTEM SET log_connections = on")
	targettest.PostgresSQL(t, f.primary, "SELECT pg_reload_conf()")
	f.standby = targettest.PostgresStandby(t, f.primary, at(3), at(4), targettest.PostgresOptions{})
	f.nginx = targettest.Nginx(t, at(5), targettest.NginxOptions{})
	f.runEtcd()
	for i, server := range map[int]*targettest.Server{0: f.master, 1: f.replica, 2: f.primary, 3: f.standby, 5: f.nginx, 7: f.etcd[0], 8: f.etcd[1], 9: f.etcd[2]} {
		p := f.places[i]
		p.server = server
		if f.targets[p.host] == nil {
			f.targets[p.host] = map[string]any{}
		}
		f.targets[p.host][server.Target.Name] = f.control(p)
	}
}

// control is a server's control path as agent.yaml has it.
func (f *fleet) control(p *place) map[string]any {
	c := p.server.Target.Control
	control := map[string]any{"kind": p.kind}
	for field, value := range map[string]string{"address": c.Address, "user": c.User, "pidFile": c.PIDFile, "program": c.Program} {
		if value != "" {
			control[field] = value
		}
	}
	if len(c.Arguments) > 0 {
		control["arguments"] = c.Arguments
	}
	if c.Password != nil {
		password, err := c.Password()
		if err != nil {
			f.t.Fatal(err)
		}
		path := f.path("password-" + p.intent)
		targettest.Write(f.t, path, string(password), 0o600, "")
		control["passwordFile"] = path
	}
	return control
}

// credentials is what the clients' own placement holds now.
func (f *fleet) credentials() (*tls.Config, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(f.places[6].dir(f), "current"))
	if err != nil {
		return nil, err
	}
	shown, err := tls.LoadX509KeyPair(filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "bundle.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("the bundle holds no anchor")
	}
	return load.Config(roots, &shown), nil
}

// employ sets clients to work that read their files at each connection.
func (f *fleet) employ() {
	login := load.Login{User: targettest.PostgresApp, Password: targettest.PostgresPassword, Database: "postgres"}
	for name, dial := range map[string]load.Dialer{
		"redis": load.Redis(f.master.Target.Address), "redis replica": load.RedisRead(f.replica.Target.Address),
		"postgres": load.Postgres(login)(f.primary.Target.Address), "postgres standby": load.Standby(login)(f.standby.Target.Address),
		"nginx": load.HTTP(f.nginx.Target.Address), "etcd": load.Etcd(f.etcdAddresses()...),
	} {
		f.loads[name] = load.Start(load.Options{
			Dial: func(ctx context.Context, _ *tls.Config) (load.Session, error) {
				config, err := f.credentials()
				if err != nil {
					return nil, err
				}
				return dial(ctx, config)
			},
			// What HTTP clients do with a request that may be repeated, and
			// clients of a cluster, which has another member.
			Retry: name == "nginx" || name == "etcd", RetryNew: name == "etcd", Backoff: backoff[name],
			Kept: 20 * time.Millisecond, Fresh: 100 * time.Millisecond, Patience: 10 * time.Second,
			Complain: func(format string, args ...any) { f.t.Errorf(name+": "+format, args...) },
		}, nil, nil)
	}
	f.t.Cleanup(func() {
		for _, l := range f.loads {
			l.Stop()
		}
	})
}

// counted is what the clients saw so far.
func (f *fleet) counted() (total load.Counts) {
	for _, l := range f.loads {
		c := l.Counts()
		total.Requests, total.Failed, total.Reconnects = total.Requests+c.Requests, total.Failed+c.Failed, total.Reconnects+c.Reconnects
	}
	return total
}

// links counts the replication links that were ever made, as Redis' master and
// PostgreSQL's primary count them: over TLS, here.
func (f *fleet) links() (redis, postgres int) {
	f.t.Helper()
	info := f.askRedis(f.master, "INFO stats")
	for _, field := range []string{"sync_full:", "sync_partial_ok:"} {
		var count int
		if _, rest, ok := strings.Cut(info, field); ok {
			if _, err := fmt.Sscan(rest, &count); err == nil {
				redis += count
			}
		}
	}
	log, err := os.ReadFile(filepath.Join(f.primary.Dir, "log"))
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "replication connection authorized") && strings.Contains(line, "SSL enabled") {
			postgres++
		}
	}
	return redis, postgres
}

// linked waits until all links are up, over TLS.
func (f *fleet) linked() {
	f.t.Helper()
	f.until("the replica is linked", func() error {
		if info := f.askRedis(f.replica, "INFO replication"); !strings.Contains(info, "master_link_status:up") {
			return errors.New(info)
		}
		return nil
	})
	f.until("the standby streams over TLS", func() error {
		rows := targettest.PostgresSQL(f.t, f.primary, "SELECT state, ssl FROM pg_stat_replication JOIN pg_stat_ssl USING (pid)")
		if len(rows) != 1 || !strings.Contains(rows[0], "streaming") {
			return fmt.Errorf("%q", rows)
		}
		return nil
	})
	f.peered()
}

func (f *fleet) askRedis(server *targettest.Server, command string) string {
	f.t.Helper()
	conn, err := net.DialTimeout("unix", server.Target.Control.Address, 5*time.Second)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(conn, "%s\r\nQUIT\r\n", command); err != nil {
		f.t.Fatal(err)
	}
	var b strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		b.Write(buffer[:n])
		if err != nil {
			return b.String()
		}
	}
}

// served is the chain that a server shows; a member of etcd may be restarting.
func (f *fleet) served(at target.Target) (chain []*x509.Certificate) {
	f.t.Helper()
	f.until(at.Name+" answers", func() error {
		config, err := f.credentials()
		if err != nil {
			return err
		}
		config.InsecureSkipVerify = true // its chain is looked at by the caller
		ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
		defer cancel()
		conn, err := eye.Dial(ctx, at.Address, at.Preamble, config)
		if err != nil {
			return err
		}
		chain = conn.ConnectionState().PeerCertificates
		_ = conn.Close() // all was read
		return nil
	})
	return chain
}

// verified checks each chain that is served against the clients' own bundle, by
// Go and by OpenSSL.
func (f *fleet) verified() {
	f.t.Helper()
	config, err := f.credentials()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, p := range f.places {
		if p.server == nil {
			continue
		}
		chain := f.served(p.server.Target)
		options := x509.VerifyOptions{Roots: config.RootCAs, Intermediates: x509.NewCertPool(), DNSName: "localhost"}
		var rest []byte
		for _, one := range chain[1:] {
			options.Intermediates.AddCert(one)
			rest = append(rest, pki.EncodeCertificatesPEM(one.Raw)...)
		}
		if _, err := chain[0].Verify(options); err != nil {
			f.t.Errorf("%s: Go: %v", p.intent, err)
		}
		leaf, untrusted := f.path("leaf.pem"), f.path("untrusted.pem")
		targettest.Write(f.t, leaf, string(pki.EncodeCertificatesPEM(chain[0].Raw)), 0o600, "")
		targettest.Write(f.t, untrusted, string(rest), 0o600, "")
		bundle := filepath.Join(f.places[6].dir(f), "current", "bundle.pem")
		output, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "localhost", "-CAfile", bundle, "-untrusted", untrusted, leaf).CombinedOutput()
		if err != nil {
			f.t.Errorf("%s: openssl verify: %v: %s", p.intent, err, output)
		}
	}
}

// under says whether each server shows a leaf of the authority alone, and each
// bundle on the hosts has that root alone.
func (f *fleet) under(root *x509.Certificate) {
	f.t.Helper()
	for _, p := range f.places {
		text, err := os.ReadFile(filepath.Join(p.dir(f), "current", "bundle.pem"))
		if err != nil {
			f.t.Fatal(err)
		}
		bundle, err := pki.ParseBundlePEM(text)
		if err != nil || len(bundle.Anchors()) != 1 || !bundle.Contains(root) {
			f.t.Errorf("%s: %d anchors are left, %v", p.intent, len(bundle.Anchors()), err)
		}
		if p.server == nil {
			continue
		}
		if chain := f.served(p.server.Target); !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return c.CheckSignatureFrom(root) == nil }) {
			f.t.Errorf("%s does not stand under %s", p.intent, root.Subject)
		}
	}
}

// refused says whether each server refuses a client's certificate of before.
func (f *fleet) refused(old *tls.Certificate) {
	f.t.Helper()
	config, err := f.credentials()
	if err != nil {
		f.t.Fatal(err)
	}
	good := config.Clone()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return old, nil }
	login := load.Login{User: targettest.PostgresApp, Password: targettest.PostgresPassword, Database: "postgres"}
	for name, dial := range map[string]load.Dialer{
		"redis": load.Redis(f.master.Target.Address), "redis replica": load.RedisRead(f.replica.Target.Address),
		"postgres": load.Postgres(login)(f.primary.Target.Address), "postgres standby": load.Standby(login)(f.standby.Target.Address),
		"nginx": load.HTTP(f.nginx.Target.Address),
		"etcd1": load.Etcd(f.etcd[0].Target.Address), "etcd2": load.Etcd(f.etcd[1].Target.Address), "etcd3": load.Etcd(f.etcd[2].Target.Address),
	} {
		if err := f.asks(dial, good); err != nil { // a control: without it a closed port refuses, too
			f.t.Errorf("%s does not take the certificate of today: %v", name, err)
		}
		if err := f.asks(dial, config); err == nil {
			f.t.Errorf("%s takes a client certificate under the root that went", name)
		}
	}
}

// asks makes one request on a connection of its own.
func (f *fleet) asks(dial load.Dialer, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	session, err := dial(ctx, config)
	if err != nil {
		return err
	}
	defer session.Close()
	return session.Request(ctx)
}

// shown is the clients' certificate as it is now.
func (f *fleet) shown() *tls.Certificate {
	f.t.Helper()
	config, err := f.credentials()
	if err != nil {
		f.t.Fatal(err)
	}
	certificate, err := config.GetClientCertificate(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return certificate
}

func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pki.ParseCertificatesPEM(text)
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}
