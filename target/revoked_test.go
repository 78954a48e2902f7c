package target_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// revoker is a root that signs clients itself, and their revocation.
type revoker struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newRevoker(t *testing.T) *revoker {
	t.Helper()
	r := &revoker{n: 1}
	r.root, r.key = r.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "revoker"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3},
	})
	return r
}

func (r *revoker) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r.n++
	template.SerialNumber = big.NewInt(r.n)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := r.root, r.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func (r *revoker) client(t *testing.T) *targettest.Credential {
	t.Helper()
	leaf, key := r.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "client"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return &targettest.Credential{Leaf: leaf, Chain: [][]byte{leaf.Raw}, Key: key}
}

// under is a client under so many intermediates.
func (r *revoker) under(t *testing.T, intermediates int) *targettest.Credential {
	t.Helper()
	by, ders := r, [][]byte(nil)
	for range intermediates {
		r.n++
		ca, key := by.sign(t, &x509.Certificate{
			Subject: pkix.Name{CommonName: fmt.Sprint("intermediate ", r.n)}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{9, byte(r.n)},
		})
		by, ders = &revoker{root: ca, key: key, n: r.n}, append([][]byte{ca.Raw}, ders...)
	}
	client := by.client(t)
	client.Chain = append(client.Chain, ders...)
	return client
}

// files is a server's revision that trusts the revoker, but for these.
func (r *revoker) files(t *testing.T, leaf *targettest.Credential, revoked ...*targettest.Credential) map[string][]byte {
	t.Helper()
	r.n++
	list := &x509.RevocationList{Number: big.NewInt(r.n), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, one := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: one.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, r.root, r.key)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.EncodeKeyPEM(leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"chain.pem": pki.EncodeCertificatesPEM(leaf.Chain...), "key.pem": key,
		"bundle.pem": pki.EncodeCertificatesPEM(r.root.Raw), "crl.pem": pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}),
	}
}

// TestRevocationLists: a reload takes another CRL, by which a client that was
// accepted is refused, and the other is not.
func TestRevocationLists(t *testing.T) {
	for _, c := range []struct {
		kind    fleet.TargetKind
		account string
		level   fleet.Level
		start   func(*targettest.Delivery) *targettest.Server
	}{
		{fleet.TargetNginx, targettest.NginxAccount(), fleet.Loaded, func(d *targettest.Delivery) *targettest.Server {
			return targettest.Nginx(t, d, targettest.NginxOptions{Server: []string{"ssl_crl " + d.File("crl.pem") + ";"}})
		}},
		{fleet.TargetMosquitto, targettest.MosquittoAccount(), fleet.Delivered, func(d *targettest.Delivery) *targettest.Server {
			return targettest.Mosquitto(t, d, targettest.MosquittoOptions{Config: []string{"crlfile " + d.File("crl.pem")}})
		}},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			r := newRevoker(t)
			gone, stays := r.client(t), r.client(t)
			leaf := targettest.NewAuthority(t, "A").Issue(t, targettest.Order{})
			d := targettest.NewDelivery(t, c.account)
			d.SwitchFiles(r.files(t, leaf))
			adapter, err := target.Lookup(c.kind)
			if err != nil {
				t.Fatal(err)
			}
			s := &stand{t: t, Delivery: d, adapter: adapter, Server: c.start(d), late: c.level == fleet.Delivered}
			s.accepts(gone)
			s.accepts(stays)
			d.SwitchFiles(r.files(t, leaf, gone))
			s.loads(target.Change{CRL: true}, c.level)
			s.refuses(gone)
			s.accepts(stays)
		})
	}
}

// TestVerifyDepths: how many intermediates a server follows in a client's
// chain, when nobody has told it. A bridge makes two.
func TestVerifyDepths(t *testing.T) {
	r := newRevoker(t)
	for _, c := range []struct {
		kind    fleet.TargetKind
		account string
		follows []int
		not     []int
		start   func(*targettest.Delivery) *targettest.Server
	}{
		{fleet.TargetNginx, targettest.NginxAccount(), []int{1}, []int{2}, func(d *targettest.Delivery) *targettest.Server {
			return targettest.Nginx(t, d, targettest.NginxOptions{VerifyDepth: -1})
		}},
		{fleet.TargetNginx, targettest.NginxAccount(), []int{1, 2}, []int{3}, func(d *targettest.Delivery) *targettest.Server {
			return targettest.Nginx(t, d, targettest.NginxOptions{VerifyDepth: 2})
		}},
		{fleet.TargetNATS, targettest.NATSAccount(), []int{2, 11}, nil, func(d *targettest.Delivery) *targettest.Server {
			return targettest.NATS(t, d, targettest.NATSOptions{})
		}},
		{fleet.TargetMosquitto, targettest.MosquittoAccount(), []int{2, 11}, nil, func(d *targettest.Delivery) *targettest.Server {
			return targettest.Mosquitto(t, d, targettest.MosquittoOptions{})
		}},
	} {
		d := targettest.NewDelivery(t, c.account)
		d.SwitchFiles(r.files(t, targettest.NewAuthority(t, "A").Issue(t, targettest.Order{})))
		s := &stand{t: t, Delivery: d, Server: c.start(d)}
		s.follows(r, c.follows, c.not)
	}
}

func (s *stand) follows(r *revoker, these, not []int) {
	s.t.Helper()
	for _, n := range these {
		s.accepts(r.under(s.t, n))
	}
	for _, n := range not {
		s.refuses(r.under(s.t, n))
	}
}
