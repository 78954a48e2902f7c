package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
	controlplane "github.com/rotunda-pki/rotunda/server"
	"github.com/rotunda-pki/rotunda/store"
)

// founding is what `rotunda init` was asked for.
type founding struct {
	state            string
	trustDomain      string
	algorithm        string
	rootLifetime     string
	issuingLifetime  string
	permitDNS        []string
	permitIP         []string
	names            []string
	askPassphrase    bool
	kekFile          string
	kekCredential    string
	listen           controlplane.Listen
	publicURL, agent string
	store            string
	founded          bool // the store is this run's, and of use with its keys alone
}

const initHelp = `Make a new trust domain in the state directory:

  root/cert.pem, root/key.pem   the root; its key is needed for ceremonies only:
                                move it offline once you have a copy
  rotunda.db                    the store, with the issuing authority's key and
                                the audit log's key, sealed; --store makes it in
                                an empty PostgreSQL database instead, which many
                                servers may share
  kek                           the key that opens them; --kek-file or
                                --kek-credential keep it elsewhere
  admin/                        an administrator's credential, for
                                --credentials or ~/.config/rotunda
  rotunda.yaml                  the server's settings

The issuing authority may sign only for the names that --permit-dns and
--permit-ip allow, subdomains included. Nothing is left behind when it fails.`

func newInitCommand() *cobra.Command {
	var f founding
	cmd := &cobra.Command{
		Use:   "init --trust-domain DOMAIN",
		Short: "Make a new trust domain",
		Long:  initHelp,
		Example: `  rotunda init --trust-domain prod.example.org --permit-dns db.example.org --name rotunda.example.org
  rotunda init --trust-domain lab.example --state ./rotunda --root-passphrase
  rotunda init --trust-domain prod.example.org --store 'postgres://rotunda@db.example.org/rotunda?sslmode=verify-full'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	host, _ := os.Hostname()
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", "/var/lib/rotunda", "the directory to make")
	flags.StringVar(&f.trustDomain, "trust-domain", "", "the trust domain's name, such as prod.example.org")
	flags.StringVar(&f.algorithm, "algorithm", "ecdsa-p256", "of the authorities' keys: ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096")
	flags.StringVar(&f.rootLifetime, "root-lifetime", "3650d", "how long the root lives")
	flags.StringVar(&f.issuingLifetime, "issuing-lifetime", "1095d", "how long the issuing authority lives")
	flags.StringSliceVar(&f.permitDNS, "permit-dns", nil, "a DNS domain that certificates may name; the trust domain's own, localhost and --name are always among them")
	flags.StringSliceVar(&f.permitIP, "permit-ip", []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"}, "a network whose addresses certificates may name")
	flags.StringSliceVar(&f.names, "name", []string{host, "localhost", "127.0.0.1"}, "a DNS name or IP address of the server")
	flags.BoolVar(&f.askPassphrase, "root-passphrase", false, "encrypt the root's key; the passphrase is asked for, or read as one line from stdin")
	flags.StringVar(&f.kekFile, "kek-file", "", "where the key encryption key is, or is made if nothing is there (default STATE/kek)")
	flags.StringVar(&f.kekCredential, "kek-credential", "", "the systemd credential that holds the key encryption key")
	flags.StringVar(&f.listen.Agents, "listen-agents", ":7443", "where agents connect")
	flags.StringVar(&f.listen.Operators, "listen-operators", ":7444", "where operators connect")
	flags.StringVar(&f.listen.Public, "listen-public", ":7480", "where CRLs and the audit log are served")
	flags.StringVar(&f.listen.Metrics, "listen-metrics", "127.0.0.1:7490", "where Prometheus metrics are served")
	flags.StringVar(&f.publicURL, "public-url", "", "the URL of the public listener, as it will stand in certificates (default http://NAME:PORT)")
	flags.StringVar(&f.store, "store", "", "the `URL` of an empty PostgreSQL database to make the store in (default STATE/rotunda.db)")
	flags.StringVar(&f.agent, "agent-address", "", "the host:port that agents connect to (default NAME:PORT)")
	cmd.MarkFlagRequired("trust-domain")
	cmd.MarkFlagsMutuallyExclusive("kek-file", "kek-credential")
	return cmd
}

func (f *founding) run(cmd *cobra.Command) error {
	if err := f.complete(); err != nil {
		return err
	}
	order, err := f.order()
	if err != nil {
		return err
	}
	state, err := filepath.Abs(f.state)
	if err != nil {
		return err
	}
	if err := emptyOrAbsent(state); err != nil {
		return err
	}
	var passphrase []byte
	if f.askPassphrase {
		if passphrase, err = newUI(cmd).newPassphrase("the root's key"); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(state), 0o755); err != nil {
		return err
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(state), "."+filepath.Base(state)+".init-*")); len(left) > 0 {
		newUI(cmd).note("%s is left of an init that was killed, and may hold keys: remove it", strings.Join(left, ", "))
	}
	// All is made beside the state directory and appears in it with one
	// rename, so a crash leaves nothing that looks like a trust domain.
	work, err := os.MkdirTemp(filepath.Dir(state), "."+filepath.Base(state)+".init-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	err = f.found(cmd.Context(), work, state, order, passphrase)
	if err == nil {
		if err = os.Rename(work, state); err != nil {
			err = fmt.Errorf("put the new state in place: %w", err)
		}
	}
	if err != nil {
		return errors.Join(err, f.abandon(cmd.Context()))
	}
	f.tell(newUI(cmd), state)
	return nil
}

// abandon empties a database in which the store was begun: its keys go with the
// directory.
func (f *founding) abandon(ctx context.Context) error {
	if f.store == "" || !f.founded {
		return nil
	}
	return store.Abandon(context.WithoutCancel(ctx), store.Locate(f.store))
}

// complete fills the defaults that depend on other flags.
func (f *founding) complete() error {
	if f.store != "" && !store.IsURL(f.store) {
		return usagef("--store: %q is not the URL of a PostgreSQL database, like postgres://rotunda@db.example.org/rotunda", f.store)
	}
	if len(f.names) == 0 {
		return usagef("--name: the server needs at least one name")
	}
	if f.publicURL == "" {
		_, port, err := net.SplitHostPort(f.listen.Public)
		if err != nil {
			return usagef("--listen-public: %q is not host:port", f.listen.Public)
		}
		f.publicURL = "http://" + net.JoinHostPort(f.names[0], port)
	}
	if f.agent == "" {
		_, port, err := net.SplitHostPort(f.listen.Agents)
		if err != nil {
			return usagef("--listen-agents: %q is not host:port", f.listen.Agents)
		}
		f.agent = net.JoinHostPort(f.names[0], port)
	}
	return nil
}

// authorities is what the founding's authorities are like, parsed.
type authorities struct {
	trustDomain               spiffeid.TrustDomain
	algorithm                 pki.KeyAlgorithm
	rootLifetime, issuingLife time.Duration
	dns                       []string
	ips                       []netip.Prefix
}

func (f *founding) order() (authorities, error) {
	var a authorities
	var err error
	if a.trustDomain, err = spiffeid.TrustDomainFromString(f.trustDomain); err != nil {
		return a, usagef("--trust-domain: %v", err)
	}
	if a.algorithm, err = pki.ParseKeyAlgorithm(f.algorithm); err != nil {
		return a, usagef("--algorithm: %v", err)
	}
	root, err := fleet.ParseDuration(f.rootLifetime)
	if err != nil {
		return a, usagef("--root-lifetime: %v", err)
	}
	issuing, err := fleet.ParseDuration(f.issuingLifetime)
	if err != nil {
		return a, usagef("--issuing-lifetime: %v", err)
	}
	if issuing.Std() > root.Std() {
		return a, usagef("--issuing-lifetime %s is longer than --root-lifetime %s", issuing, root)
	}
	a.rootLifetime, a.issuingLife = root.Std(), issuing.Std()
	a.dns = append(append(a.dns, a.trustDomain.Name(), "localhost"), f.permitDNS...)
	for _, name := range f.names {
		if net.ParseIP(name) == nil {
			a.dns = append(a.dns, name)
		}
	}
	slices.Sort(a.dns)
	a.dns = slices.Compact(a.dns)
	for _, text := range f.permitIP {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return a, usagef("--permit-ip: %v", err)
		}
		a.ips = append(a.ips, prefix.Masked())
	}
	return a, nil
}

func emptyOrAbsent(state string) error {
	entries, err := os.ReadDir(state)
	if os.IsNotExist(err) || (err == nil && len(entries) == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.New(fault.Conflict, "%s is not empty: a trust domain is made once", state).
		WithRemedy("name another directory with --state")
}

// found makes everything in work, as it will lie in state.
func (f *founding) found(ctx context.Context, work, state string, order authorities, passphrase []byte) error {
	for _, dir := range []string{"root", "admin"} {
		if err := os.Mkdir(filepath.Join(work, dir), 0o700); err != nil {
			return err
		}
	}
	kek, config, err := f.kek(work)
	if err != nil {
		return err
	}
	root, rootKey, err := makeRoot(work, order, passphrase)
	if err != nil {
		return err
	}
	place := store.Options{Path: filepath.Join(work, "rotunda.db")}
	if f.store != "" {
		place = store.Locate(f.store)
	}
	place.Create = true
	db, err := store.Open(ctx, place)
	if err != nil {
		return err
	}
	defer db.Close()
	uid := os.Getuid()
	caller := control.Caller{Kind: control.Socket, UID: &uid}
	err = control.Found(ctx, db, control.Founding{
		TrustDomain: order.trustDomain, Root: root, RootKey: rootKey, Algorithm: order.algorithm,
		IssuingLifetime: order.issuingLife, PermittedDNS: order.dns, PermittedIPs: order.ips,
		PublicURL: f.publicURL, KEK: kek, Caller: caller,
	})
	if err != nil {
		return err
	}
	f.founded = true
	c, err := control.Open(ctx, control.Options{
		DB: db, KEK: kek, PublicURL: f.publicURL, AgentAddress: f.agent, Version: version(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	if err := f.makeAdmin(ctx, c, caller, filepath.Join(work, "admin")); err != nil {
		return err
	}
	if _, err := c.SequenceAudit(ctx); err != nil {
		return err
	}
	if err := c.LeaveSequence(ctx); err != nil { // to the server
		return err
	}
	return writeConfig(filepath.Join(work, "rotunda.yaml"), controlplane.Config{
		TrustDomain: order.trustDomain.Name(), Listen: f.listen, AdminSocket: adminSocket(state), PublicURL: f.publicURL, AgentAddress: f.agent,
		Names: f.names, Store: orElse(f.store, "rotunda.db"), KEK: config,
	})
}

// kek opens the key encryption key, and makes it where none was named.
func (f *founding) kek(work string) (*keys.KEK, controlplane.KEK, error) {
	switch {
	case f.kekCredential != "":
		kek, err := keys.OpenKEK(keys.Source{Credential: f.kekCredential})
		return kek, controlplane.KEK{Credential: f.kekCredential}, err
	case f.kekFile != "":
		path, err := filepath.Abs(f.kekFile)
		if err != nil {
			return nil, controlplane.KEK{}, err
		}
		if _, err := os.Stat(path); os.IsNotExist(err) {
			if err := keys.NewKEKFile(path); err != nil {
				return nil, controlplane.KEK{}, err
			}
		}
		kek, err := keys.OpenKEK(keys.Source{File: path})
		return kek, controlplane.KEK{File: path}, err
	}
	path := filepath.Join(work, "kek")
	if err := keys.NewKEKFile(path); err != nil {
		return nil, controlplane.KEK{}, err
	}
	kek, err := keys.OpenKEK(keys.Source{File: path})
	return kek, controlplane.KEK{File: "kek"}, err
}

func makeRoot(work string, order authorities, passphrase []byte) (*x509.Certificate, crypto.Signer, error) {
	key, err := keys.CreateFile(filepath.Join(work, "root", "key.pem"), order.algorithm, passphrase)
	if err != nil {
		return nil, nil, err
	}
	root, _, err := ca.CreateRoot(time.Now(), ca.RootOrder{
		Key: key, TrustDomain: order.trustDomain, Name: order.trustDomain.Name() + " root " + time.Now().UTC().Format("2006"),
		Lifetime: order.rootLifetime,
	})
	if err != nil {
		return nil, nil, err
	}
	return root, key, os.WriteFile(filepath.Join(work, "root", "cert.pem"), pki.EncodeCertificatesPEM(root.Raw), 0o644)
}

// makeAdmin makes the first operator's credential: a key that is born here and
// a certificate for it.
func (f *founding) makeAdmin(ctx context.Context, c *control.Control, caller control.Caller, dir string) error {
	key, err := keys.CreateFile(filepath.Join(dir, "key.pem"), pki.ECDSAP256, nil)
	if err != nil {
		return err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return err
	}
	response, err := c.IssueOperator(ctx, caller, &api.IssueOperatorRequest{Name: "admin", Csr: csr})
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(f.listen.Operators)
	if err != nil {
		return usagef("--listen-operators: %q is not host:port", f.listen.Operators)
	}
	url := "https://" + net.JoinHostPort(f.names[0], port)
	for name, content := range map[string][]byte{
		"cert.pem":    pki.EncodeCertificatesPEM(response.Chain...),
		"ca.pem":      pki.EncodeCertificatesPEM(response.Anchors...),
		"log.pub":     []byte(c.LogKey() + "\n"),
		"client.yaml": []byte("server: " + url + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// adminSocket is where the admin socket will be: where operators look for it
// if root runs the server, else in the state directory.
func adminSocket(state string) string {
	if os.Getuid() == 0 && state == "/var/lib/rotunda" {
		return "/run/rotunda/admin.sock"
	}
	return "admin.sock"
}

func (f *founding) tell(u *ui, state string) {
	u.say("Trust domain %s is made in %s.", f.trustDomain, state)
	u.say("")
	u.say("Next:")
	u.say("  rotunda server --state %s", state)
	u.say("  export ROTUNDA_CREDENTIALS=%s", filepath.Join(state, "admin"))
	u.say("  rotunda token create --label host=$(hostname)")
	u.say("")
	for _, line := range []string{
		"Keep a copy of " + filepath.Join(state, "root", "key.pem") + " offline: without it no new issuing",
		"authority can be made. Then remove it here; the server never reads it.",
	} {
		u.say("%s", strings.TrimSpace(line))
	}
}
