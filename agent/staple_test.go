package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/ocsp"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// stapled signs a response for the placement's certificate, as a server does.
func (l *lab) stapled(id string, from time.Time) []byte {
	l.t.Helper()
	leaf, by := l.sound(id), l.roots["a"].authority
	key, err := pki.ECDSAP256.Generate()
	check(l.t, err)
	names, err := pki.ParseNames("responder", nil, nil, "")
	check(l.t, err)
	prepared, err := by.PrepareResponder(time.Now(), key.Public(), names, 10*time.Hour, time.Minute)
	check(l.t, err)
	issued, err := by.Issue(prepared)
	check(l.t, err)
	cert, err := pki.ParseCertificateDER(issued.Chain[0])
	check(l.t, err)
	responder, err := ocsp.NewResponder(by.Certificate, cert, key)
	check(l.t, err)
	issuer, err := ocsp.NewIssuer(by.Certificate)
	check(l.t, err)
	serial, err := pki.SerialOf(leaf)
	check(l.t, err)
	certID, err := issuer.CertID(serial)
	check(l.t, err)
	der, err := responder.Sign(from, []ocsp.Single{{ID: certID, Status: ocsp.Good, This: from, Next: from.Add(listLife)}}, nil)
	check(l.t, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.staples == nil {
		l.staples = map[string][]byte{}
	}
	l.staples[pki.FingerprintOf(der).String()] = der
	return der
}

// stapling desires the response; nil: none.
func stapling(der []byte, from time.Time) func(*api.DesiredPlacement) {
	return func(d *api.DesiredPlacement) {
		d.Profile.Staple, d.StapleDigest, d.StapleUntil = true, "", nil
		if der != nil {
			d.StapleDigest, d.StapleUntil = pki.FingerprintOf(der).String(), timestamppb.New(from.Add(listLife))
		}
	}
}

// staples is the response that a handshake is given.
func (s *listed) staples() []byte {
	s.l.t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: "orders.lab.test", RootCAs: s.l.bundle("a").Pool()}}
	conn, err := dialer.DialContext(context.Background(), "tcp", s.Target.Address)
	check(s.l.t, err)
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().OCSPResponse
}

// staplingServers are told where the response is, and ask no client for anything.
var staplingServers = map[string]func(l *lab, d *targettest.Delivery) *targettest.Server{
	"nginx": func(l *lab, d *targettest.Delivery) *targettest.Server {
		return targettest.Nginx(l.t, d, targettest.NginxOptions{Name: "p1", VerifyClient: "off", Server: []string{"include " + d.File("staple.conf") + ";"}})
	},
	"haproxy": func(l *lab, d *targettest.Delivery) *targettest.Server {
		return targettest.HAProxy(l.t, d, targettest.HAProxyOptions{Name: "p1", Verify: "none"})
	},
}

// staplingRun starts a placement, with what is first delivered beside it, and a
// server that staples.
func staplingRun(t *testing.T, kind string, first func(*lab) func(*api.DesiredPlacement)) (*lab, *listed) {
	t.Helper()
	l := openLab(t, targettest.Dir(t, "lab-"))
	l.want("p1", stapling(nil, time.Now()), func(d *api.DesiredPlacement) {
		d.Target.Kind, d.Files.Mode, d.Files.Formats = kind, "0600", []string{string(fleet.FormatPEM), string(fleet.FormatCombined)}
	})
	stop := l.run()
	l.steady("p1", 1)
	if first != nil {
		l.want("p1", first(l))
		l.until("p1", "steady with a staple", func(r *api.PlacementReport) bool {
			return r.GetState() == api.State_STATE_STEADY && r.GetStapleDigest() != ""
		})
	}
	stop()
	s := &listed{l: l, id: "p1", kind: kind, Server: staplingServers[kind](l, &targettest.Delivery{Dir: l.path("p1")})}
	l.want("p1", s.wanted, func(d *api.DesiredPlacement) { d.Target.ClientAuth = "none" })
	l.run(func(c *Config) {
		control := s.Target.Control
		c.Targets = map[string]TargetConfig{"p1": {Kind: kind, Address: control.Address, PIDFile: control.PIDFile, Program: control.Program, Arguments: control.Arguments}}
	})
	return l, s
}

// A response is given in handshakes from its delivery on, and another in the place
// of it; a new certificate is given without that of the one before, and so is one
// that was revoked: none is wanted of it any more.
func TestStaplesAreServed(t *testing.T) {
	for kind := range staplingServers {
		t.Run(kind, func(t *testing.T) {
			now := time.Now()
			l, s := staplingRun(t, kind, nil)
			serves := func(generation uint64, der []byte) {
				t.Helper()
				want := ""
				if der != nil {
					want = pki.FingerprintOf(der).String()
				}
				l.until("p1", "steady with the staple "+want, func(r *api.PlacementReport) bool {
					return r.GetState() == api.State_STATE_STEADY && r.GetLevel() == api.Level_LEVEL_PROVEN && r.GetGeneration() == generation && r.GetStapleDigest() == want
				})
				if got := s.staples(); !bytes.Equal(got, der) {
					t.Fatalf("a handshake gives %d octets, want %d\n%s", len(got), len(der), s.Log())
				}
			}
			if got := s.staples(); got != nil {
				t.Fatalf("%d octets are stapled that nobody delivered", len(got))
			}
			for _, from := range []time.Time{now.Add(-time.Minute), now} {
				der := l.stapled("p1", from)
				l.want("p1", stapling(der, from))
				serves(1, der)
			}
			l.want("p1", renewThrough(1))
			serves(2, nil)
			der := l.stapled("p1", now)
			l.want("p1", stapling(der, now))
			serves(2, der)
			l.want("p1", stapling(nil, now))
			serves(2, nil)
		})
	}
}

// nginx that names the response by itself would load nothing while there is none:
// it is told so before anything more is switched.
func TestStapleThatIsNamedForGoodIsFound(t *testing.T) {
	plain := staplingServers["nginx"]
	staplingServers["nginx"] = func(l *lab, d *targettest.Delivery) *targettest.Server {
		return targettest.Nginx(l.t, d, targettest.NginxOptions{Name: "p1", VerifyClient: "off", Server: []string{"ssl_stapling on; ssl_stapling_file " + d.File("staple.der") + ";"}})
	}
	t.Cleanup(func() { staplingServers["nginx"] = plain })
	now := time.Now()
	l, _ := staplingRun(t, "nginx", func(l *lab) func(*api.DesiredPlacement) { return stapling(l.stapled("p1", now), now) })
	l.want("p1", renewThrough(1))
	report := l.until("p1", "told", func(r *api.PlacementReport) bool { return r.GetState() == api.State_STATE_FAILED })
	if !strings.Contains(report.GetReason(), "it would load nothing while there is none") || !strings.Contains(report.GetReason(), "/p1/current/staple.conf") {
		t.Errorf("reason: %s", report.GetReason())
	}
}
