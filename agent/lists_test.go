package agent

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// listed is a real server at a placement, which reads CRLs.
type listed struct {
	*targettest.Server

	l    *lab
	id   string
	kind string
}

// listedServers are servers of the kinds that are tried, each told where its
// CRLs are. Those of the first two can include what names them instead.
var listedServers = map[string]func(l *lab, id string, include bool) *listed{
	"nginx": func(l *lab, id string, include bool) *listed {
		d := &targettest.Delivery{Dir: l.path(id)}
		line := "ssl_crl " + d.File("crl.pem") + ";"
		if include {
			line = "include " + d.File("crl.conf") + ";"
		}
		return &listed{l: l, id: id, kind: "nginx", Server: targettest.Nginx(l.t, d, targettest.NginxOptions{Name: id, Server: []string{line}})}
	},
	"postgres": func(l *lab, id string, include bool) *listed {
		d := &targettest.Delivery{Dir: l.path(id)}
		line := "ssl_crl_file = '" + d.File("crl.pem") + "'"
		if include {
			line = "include_if_exists = '" + d.File("crl.conf") + "'"
		}
		return &listed{l: l, id: id, kind: "postgres", Server: targettest.Postgres(l.t, d, targettest.PostgresOptions{Name: id, Config: []string{line}})}
	},
	"haproxy": func(l *lab, id string, _ bool) *listed {
		d := &targettest.Delivery{Dir: l.path(id)}
		return &listed{l: l, id: id, kind: "haproxy", Server: targettest.HAProxy(l.t, d, targettest.HAProxyOptions{Name: id, Bind: "crl-file " + d.File("crl.pem")})}
	},
	"mariadb": func(l *lab, id string, _ bool) *listed {
		d := &targettest.Delivery{Dir: l.path(id)}
		return &listed{l: l, id: id, kind: "mariadb", Server: targettest.MariaDB(l.t, d, targettest.MariaDBOptions{Name: id, Config: []string{"ssl-crl=" + d.File("crl.pem")}})}
	},
	"mosquitto": func(l *lab, id string, _ bool) *listed {
		d := &targettest.Delivery{Dir: l.path(id)}
		return &listed{l: l, id: id, kind: "mosquitto", Server: targettest.Mosquitto(l.t, d, targettest.MosquittoOptions{Name: id, Config: []string{"crlfile " + d.File("crl.pem")}})}
	},
	"etcd": func(l *lab, id string, _ bool) *listed {
		d := &targettest.Delivery{Dir: l.path(id)}
		return &listed{l: l, id: id, kind: "etcd", Server: targettest.Etcd(l.t, targettest.EtcdDeliveries{Server: d, Peer: d},
			targettest.EtcdOptions{Name: id, Control: true, Arguments: []string{"--client-crl-file", d.File("crl.der")}})}
	},
}

// listedAccounts are whose the files are, where the server does not run as the
// test does.
var listedAccounts = map[string]string{
	"postgres": targettest.PostgresAccount(), "mariadb": targettest.MariaDBAccount(), "mosquitto": targettest.MosquittoAccount(),
}

// listedPasswords are those of the agent's account at a server.
var listedPasswords = map[string]string{"postgres": targettest.PostgresPassword, "mariadb": targettest.MariaDBPassword}

// place is a placement whose first revision is in place, with the CRLs.
func (l *lab) placeListed(id, kind, account string, crls pki.CRLs, changes ...func(*api.DesiredPlacement)) {
	l.t.Helper()
	l.want(id, append([]func(*api.DesiredPlacement){func(d *api.DesiredPlacement) {
		d.Target.Kind = kind
		if kind == "haproxy" {
			d.Files.Formats = []string{"pem", "combined"}
		}
		d.Files.Owner = account
		d.Files.Mode = "0600"
	}, listing(crls)}, changes...)...)
}

// running names the server in agent.yaml and asks for proofs at it.
func (s *listed) wanted(d *api.DesiredPlacement) {
	d.Target.Address, d.Target.ServerName, d.Target.ClientAuth = s.Target.Address, "orders.lab.test", "required"
	if s.kind == "mariadb" { // its accounts say who has to show a certificate, not its handshake
		d.Target.ClientAuth = "optional"
	}
	d.Proof.Level, d.Proof.Timeout.Seconds = api.Level_LEVEL_PROVEN, 5
	d.Proof.Observe.Nanos = 100e6
}

// listedRun starts a placement and a server that reads its CRLs.
func listedRun(t *testing.T, kind string, include bool, crls func(*lab) pki.CRLs, changes ...func(*api.DesiredPlacement)) (*lab, *listed, pki.CRLs) {
	t.Helper()
	l := openLab(t, targettest.Dir(t, "lab-"))
	first := crls(l)
	account := listedAccounts[kind]
	l.placeListed("p1", kind, account, first, changes...)
	allow := func(c *Config) { c.Allow.Users = []string{account} }
	stop := l.run(allow)
	l.until("p1", "in place", func(r *api.PlacementReport) bool {
		return r.GetRevision() > 0 && r.GetState() == api.State_STATE_STEADY
	})
	stop()
	s := listedServers[kind](l, "p1", include)
	l.want("p1", s.wanted)
	l.run(allow, func(c *Config) {
		control := s.Target.Control
		named := TargetConfig{Kind: kind, Address: control.Address, User: control.User, PIDFile: control.PIDFile, Program: control.Program, Arguments: control.Arguments}
		if control.Password != nil {
			named.PasswordFile = filepath.Join(l.dir, "target-password")
			check(t, os.WriteFile(named.PasswordFile, []byte(listedPasswords[kind]), 0o600))
		}
		c.Targets = map[string]TargetConfig{"p1": named}
	})
	return l, s, first
}

// client is a client certificate under authority a.
func (l *lab) client() *tls.Certificate {
	l.t.Helper()
	key, err := pki.ECDSAP256.Generate()
	check(l.t, err)
	names, err := pki.ParseNames("client", nil, nil, "")
	check(l.t, err)
	prepared, err := l.roots["a"].authority.Prepare(time.Now(), ca.Request{
		PublicKey: key.Public(), Names: names,
		Terms: ca.Terms{Lifetime: 5 * time.Hour, Backdate: time.Minute, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	})
	check(l.t, err)
	issued, err := l.roots["a"].authority.Issue(prepared)
	check(l.t, err)
	leaf, err := pki.ParseCertificateDER(issued.Chain[0])
	check(l.t, err)
	return &tls.Certificate{Certificate: issued.Chain, PrivateKey: key, Leaf: leaf}
}

// serves says whether the server accepts the client.
func (s *listed) serves(client *tls.Certificate) bool {
	s.l.t.Helper()
	seen, err := probe.Handshake(context.Background(), probe.Spec{
		Address: s.Target.Address, ServerName: "orders.lab.test", Preamble: s.Target.Preamble, Certificate: client,
		ReadAcceptance: true, Roots: s.l.bundle("a"), Observer: "test", Now: time.Now,
	})
	check(s.l.t, err)
	if seen.Accepted != probe.Accepted && seen.Accepted != probe.Rejected {
		s.l.t.Fatalf("%s is undecided on the client: %+v", s.kind, seen)
	}
	return seen.Accepted == probe.Accepted
}

func (l *lab) condemned(n int) []*x509.Certificate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.doomed) < n {
		l.t.Fatalf("%d canaries were revoked, want %d", len(l.doomed), n)
	}
	return l.doomed[:len(l.doomed):len(l.doomed)]
}

// A client whose certificate is put on the CRL is refused after the delivery;
// the canary that was revoked proves it; an older list that is put back is
// refused at the check.
func TestRevokedClientsAreRefused(t *testing.T) {
	for kind := range listedServers {
		t.Run(kind, func(t *testing.T) {
			now := time.Now()
			l, s, first := listedRun(t, kind, false, func(l *lab) pki.CRLs { return l.crls(1, now) })
			gone, stays := l.client(), l.client()
			l.steady("p1", 1)
			if !s.serves(gone) || !s.serves(stays) {
				t.Fatal("a good client is refused")
			}
			second := l.crls(2, now, gone.Leaf)
			l.want("p1", listing(second))
			l.until("p1", "with the CRLs, unproven", func(r *api.PlacementReport) bool {
				return r.GetState() == api.State_STATE_STEADY && r.GetCrlDigest() == second.Digest().String() && r.GetCrlLevel() < api.Level_LEVEL_PROVEN
			})
			if s.serves(gone) || !s.serves(stays) {
				t.Error("the wrong client is refused")
			}
			doomed := l.condemned(1)
			third := l.crls(3, now, append(doomed, gone.Leaf)...)
			l.want("p1", listing(third))
			report := l.withLists("p1", third, api.Level_LEVEL_PROVEN)
			if got := trialsOf(observed(t, report)); !strings.Contains(got, "authority a, revoked=no") || !strings.Contains(got, "authority a=yes") {
				t.Errorf("trials: %s", got)
			}
			if s.serves(gone) || !s.serves(stays) {
				t.Error("the wrong client is refused")
			}
			l.opensslObeys("p1", stays, gone)
			l.want("p1", listing(first))
			refused := l.until("p1", "refusing the old list", func(r *api.PlacementReport) bool {
				return strings.Contains(r.GetReason(), "an older one would take revocations back")
			})
			if refused.GetCrlDigest() != third.Digest().String() || refused.GetState() != api.State_STATE_STEADY || s.serves(gone) {
				t.Errorf("an older list: %v", refused)
			}
			if again := l.condemned(1); len(again) != len(doomed) {
				t.Errorf("%d canaries were revoked, and later %d: lists chase them", len(doomed), len(again))
			}
		})
	}
}

// opensslObeys holds the delivered file against OpenSSL.
func (l *lab) opensslObeys(id string, good, revoked *tls.Certificate) {
	l.t.Helper()
	current := filepath.Join(l.path(id), "current")
	for client, want := range map[*tls.Certificate]bool{good: true, revoked: false} {
		file, issuing := filepath.Join(l.dir, "client.pem"), filepath.Join(l.dir, "client-issuing.pem")
		check(l.t, os.WriteFile(file, pki.EncodeCertificatesPEM(client.Certificate[0]), 0o600))
		check(l.t, os.WriteFile(issuing, pki.EncodeCertificatesPEM(client.Certificate[1]), 0o600))
		output, err := exec.Command("openssl", "verify", "-crl_check_all", "-CAfile", current+"/bundle.pem",
			"-CRLfile", current+"/crl.pem", "-untrusted", issuing, file).CombinedOutput()
		if (err == nil) != want || (!want && !strings.Contains(string(output), "certificate revoked")) {
			l.t.Errorf("openssl verify, of a good client %t: %v\n%s", want, err, output)
		}
	}
}

// A server that was never told of its CRLs is told so, before anything more is
// switched.
func TestUnreadListsAreFound(t *testing.T) {
	for kind, words := range map[string]string{"nginx": "nginx reads none", "postgres": "PostgreSQL reads none"} {
		t.Run(kind, func(t *testing.T) {
			plain := listedServers[kind]
			listedServers[kind] = func(l *lab, id string, _ bool) *listed {
				d := &targettest.Delivery{Dir: l.path(id)}
				if kind == "nginx" {
					return &listed{l: l, id: id, kind: kind, Server: targettest.Nginx(l.t, d, targettest.NginxOptions{Name: id})}
				}
				return &listed{l: l, id: id, kind: kind, Server: targettest.Postgres(l.t, d, targettest.PostgresOptions{Name: id})}
			}
			t.Cleanup(func() { listedServers[kind] = plain })
			l, _, _ := listedRun(t, kind, false, func(l *lab) pki.CRLs { return l.crls(1, time.Now()) })
			report := l.until("p1", "told", func(r *api.PlacementReport) bool { return r.GetState() == api.State_STATE_FAILED })
			if !strings.Contains(report.GetReason(), words) || !strings.Contains(report.GetReason(), "/p1/current/crl.pem") {
				t.Errorf("reason: %s", report.GetReason())
			}
		})
	}
}

// What has all that it should but does not obey its CRLs keeps the newest ones,
// and is no longer proven.
func TestWhoServesTheRevokedIsFound(t *testing.T) {
	l := openLab(t, targettest.Dir(t, "lab-"))
	now := time.Now()
	l.placeListed("p1", "files", "", l.crls(1, now))
	l.run()
	l.steady("p1", 1)
	d := &targettest.Delivery{Dir: l.path("p1")}
	s := &listed{l: l, Server: targettest.Nginx(t, d, targettest.NginxOptions{Name: "p1"})}
	l.want("p1", s.wanted, func(d *api.DesiredPlacement) { d.Target.Preamble = string(probe.HTTP) })
	second := l.crls(2, now)
	l.want("p1", listing(second))
	l.until("p1", "with the second list", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_STEADY && r.GetCrlDigest() == second.Digest().String()
	})
	second = l.crls(3, now, l.condemned(1)...)
	l.want("p1", listing(second))
	report := l.until("p1", "found out", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_FAILED && strings.Contains(r.GetReason(), "serves a client whose certificate is on its CRL")
	})
	if report.GetCrlDigest() != second.Digest().String() || report.GetCrlLevel() != api.Level_LEVEL_DELIVERED || report.GetFailure().GetStep() != "prove" || report.GetRestores() != 0 {
		t.Errorf("report: %v", report)
	}
	if got := trialsOf(observed(t, report)); !strings.Contains(got, "authority a, revoked=yes") {
		t.Errorf("trials: %s", got)
	}
}

// No fresh list comes, nobody can be asked, and the profile says open: the list is
// taken away before its end, and comes back.
func TestListsAreSetAside(t *testing.T) {
	for _, kind := range []string{"nginx", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			now := time.Now()
			gone := (*tls.Certificate)(nil)
			l, s, _ := listedRun(t, kind, true, func(l *lab) pki.CRLs {
				gone = l.client()
				return l.crls(1, now, gone.Leaf)
			}, func(d *api.DesiredPlacement) { d.Profile.StaleCrl = string(fleet.StaleOpen) })
			l.steady("p1", 1)
			if s.serves(gone) {
				t.Fatal("the CRLs are not obeyed")
			}
			l.mu.Lock()
			l.down = true
			l.mu.Unlock()
			l.pass(listLife - 20*time.Minute)
			aside := l.until("p1", "without CRLs", func(r *api.PlacementReport) bool {
				return r.GetState() == api.State_STATE_STEADY && r.GetCrlDigest() == "" && r.GetCrlAside() != ""
			})
			if !strings.Contains(aside.GetCrlAside(), "set aside") || !strings.Contains(aside.GetReason(), "set aside") || !s.serves(gone) {
				t.Errorf("set aside: %v", aside)
			}
			l.mu.Lock()
			l.down = false
			l.mu.Unlock()
			fresh := l.crls(2, now.Add(listLife-time.Hour), gone.Leaf)
			l.want("p1", listing(fresh))
			l.until("p1", "with fresh CRLs", func(r *api.PlacementReport) bool {
				return r.GetState() == api.State_STATE_STEADY && r.GetCrlDigest() == fresh.Digest().String() && r.GetCrlAside() == ""
			})
		})
	}
}

// The same, and the profile says closed: it is warned, with the time.
func TestEndingListsAreWarnedOf(t *testing.T) {
	l := newLab(t)
	now := time.Now()
	l.placeListed("p1", "files", "", l.crls(1, now))
	l.run()
	l.steady("p1", 1)
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.pass(listLife * 4 / 5)
	end := now.Add(listLife).UTC().Truncate(time.Second).Format(time.RFC3339)
	l.until("p1", "warned of", func(r *api.PlacementReport) bool {
		return strings.Contains(r.GetReason(), "the CRLs in use end at "+end) && r.GetCrlDigest() != ""
	})
	if !l.log.holds("level=WARN msg=CRLs placement=p1", "from then on the process refuses everybody") {
		t.Error("the host's own log does not say so, and nothing else can while no server is reached")
	}
	l.pass(listLife / 4)
	l.until("p1", "over", func(r *api.PlacementReport) bool {
		return strings.Contains(r.GetReason(), "the process refuses everybody") && r.GetCrlDigest() != ""
	})
}

// Lists that do not fit are refused one by one, and keep no certificate back.
func TestUnfitLists(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		make func(*lab) pki.CRLs
		want string
	}{
		"another's key": {func(l *lab) pki.CRLs {
			return l.offerCRLs(forgedList(l, now), l.crls(9, now).Of(l.roots["a"].anchor))
		}, "is not signed by its key"},
		"no list of the root": {func(l *lab) pki.CRLs {
			return l.offerCRLs(l.crls(9, now).Of(l.roots["a"].authority.Certificate))
		}, "there is no CRL of"},
		"ended":         {func(l *lab) pki.CRLs { return l.crls(9, now.Add(-listLife-time.Minute)) }, "ended at"},
		"of the future": {func(l *lab) pki.CRLs { return l.crls(9, now.Add(time.Hour)) }, "set this host's clock right"},
		"an older one":  {func(l *lab) pki.CRLs { return l.crls(1, now) }, "an older one would take revocations back"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			good := l.crls(2, now)
			l.placeListed("p1", "files", "", good)
			l.run()
			l.steady("p1", 1)
			l.want("p1", listing(c.make(l)), renewThrough(1))
			report := l.until("p1", "without the bad CRLs", func(r *api.PlacementReport) bool {
				return r.GetState() == api.State_STATE_STEADY && r.GetGeneration() == 2 && strings.Contains(r.GetReason(), "were refused")
			})
			if report.GetCrlDigest() != good.Digest().String() || !strings.Contains(report.GetReason(), c.want) {
				t.Errorf("report: %v", report)
			}
		})
	}
}

// forgedList is a list in the name of authority a, by root a's key.
func forgedList(l *lab, now time.Time) []byte {
	l.t.Helper()
	issuing := *l.roots["a"].authority.Certificate
	issuing.PublicKey = l.roots["a"].key.Public()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(9), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
	}, &issuing, l.roots["a"].key)
	check(l.t, err)
	return der
}

// A certificate that is on the CRLs that come with it is not gone on with; where
// it is in use already, that is said, and another is asked for when the control
// plane says so.
func TestOwnCertificateOnTheList(t *testing.T) {
	l := newLab(t)
	now := time.Now()
	l.placeListed("p1", "files", "", l.crls(1, now))
	l.run()
	l.steady("p1", 1)
	own := l.sound("p1")
	second := l.crls(2, now, own)
	l.want("p1", listing(second))
	l.until("p1", "said to be revoked", func(r *api.PlacementReport) bool {
		return r.GetCrlDigest() == second.Digest().String() && strings.Contains(r.GetReason(), "it was revoked")
	})
	l.want("p1", func(d *api.DesiredPlacement) { d.RevokedGenerations = []uint64{1} })
	l.steady("p1", 2)
}
