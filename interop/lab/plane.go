package lab

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Plane is what an agent asks: it signs, and it knows bundles. Several hosts
// may share one.
type Plane struct {
	Dir  string
	A, B *Root

	mu    sync.Mutex
	twist func(*Order) // of the next leaf that is signed
	away  bool         // nobody answers
}

// OpenPlane opens the control plane of a directory, or makes it there.
func OpenPlane(dir string) (*Plane, error) {
	if err := os.MkdirAll(filepath.Join(dir, "issued"), 0o700); err != nil {
		return nil, err
	}
	a, err := openRoot(dir, "a")
	if err != nil {
		return nil, err
	}
	b, err := openRoot(dir, "b")
	return &Plane{Dir: dir, A: a, B: b}, err
}

// Bundle is the bundle of the named roots: "a", "b" or "ab".
func (p *Plane) Bundle(names string) pki.Bundle {
	var anchors []*x509.Certificate
	for _, root := range []*Root{p.A, p.B} {
		if strings.Contains(names, root.Name) {
			anchors = append(anchors, root.Anchor)
		}
	}
	b, err := pki.NewBundle(anchors)
	if err != nil {
		panic(err) // two roots of our own making
	}
	return b
}

// Root is the root of that name.
func (p *Plane) Root(name string) *Root {
	if name == "b" {
		return p.B
	}
	return p.A
}

// Signer says which root signs from now on; also after a restart.
func (p *Plane) Signer(name string) error {
	return os.WriteFile(filepath.Join(p.Dir, "signer"), []byte(name), 0o600)
}

// signer is the root that signs; "a" until another was named.
func (p *Plane) signer() (*Root, error) {
	text, err := os.ReadFile(filepath.Join(p.Dir, "signer"))
	if errors.Is(err, fs.ErrNotExist) {
		return p.A, nil
	}
	return p.Root(string(text)), err
}

// Twist bends what the next leaf is signed for. It is done once.
func (p *Plane) Twist(twist func(*Order)) { p.mu.Lock(); p.twist = twist; p.mu.Unlock() }

// Away says whether the control plane is out of reach.
func (p *Plane) Away(away bool) { p.mu.Lock(); p.away = away; p.mu.Unlock() }

func (p *Plane) gone() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return fault.New(fault.Unavailable, "no server answers")
	}
	return nil
}

// bundles answers what an agent asks for by digest.
func (p *Plane) bundles(_ context.Context, digests []string) (map[string]pki.Bundle, error) {
	known := map[string]pki.Bundle{}
	for _, names := range []string{"a", "b", "ab"} {
		b := p.Bundle(names)
		known[b.Digest().String()] = b
	}
	found := map[string]pki.Bundle{}
	for _, digest := range digests {
		b, ok := known[digest]
		if !ok {
			return nil, fault.New(fault.NotFound, "bundle %s is unknown", digest)
		}
		found[digest] = b
	}
	return found, p.gone()
}

// canaries signs one client certificate under each root.
func (p *Plane) canaries(_ context.Context, placement string, der []byte, revoked bool) ([]*api.Canary, error) {
	if revoked {
		return nil, fault.New(fault.Unavailable, "no lists are signed here, and nothing is revoked")
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		return nil, err
	}
	var canaries []*api.Canary
	for _, root := range []*Root{p.A, p.B} {
		chain, err := root.Sign(Order{Public: csr.PublicKey, CommonName: "canary-" + placement,
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(10 * time.Minute),
			Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil {
			return nil, err
		}
		canaries = append(canaries, &api.Canary{Chain: chain, Anchor: pki.FingerprintOf(root.Anchor.Raw).String(), Authority: root.Name})
	}
	return canaries, p.gone()
}

// record is what was answered to a request, so that it is answered again.
type record struct {
	SPKI  string
	Chain [][]byte
}

func (p *Plane) recordOf(placement string, generation uint64) string {
	return filepath.Join(p.Dir, "issued", fmt.Sprintf("%s-%06d", placement, generation))
}

// Issued is the leaf of a generation, or nil.
func (p *Plane) Issued(placement string, generation uint64) *x509.Certificate {
	text, err := os.ReadFile(p.recordOf(placement, generation))
	if err != nil {
		return nil
	}
	var known record
	if err := json.Unmarshal(text, &known); err != nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(known.Chain[0])
	if err != nil {
		return nil
	}
	return leaf
}

// Count is how many generations a placement was issued.
func (p *Plane) Count(placement string) int {
	found, err := filepath.Glob(filepath.Join(p.Dir, "issued", placement+"-??????"))
	if err != nil {
		return -1
	}
	return len(found)
}

// Sign answers a request as a server does: one key for each number, and the
// same answer to the same request.
func (p *Plane) Sign(d *api.DesiredPlacement, request *api.PlacementRequest) ([][]byte, error) {
	csr, err := pki.ParseCSR(request.GetCsr())
	if err != nil {
		return nil, err
	}
	spki, err := pki.SPKIHashOf(csr.PublicKey)
	if err != nil {
		return nil, err
	}
	at := p.recordOf(request.GetPlacementId(), request.GetGeneration())
	if text, err := os.ReadFile(at); err == nil {
		var known record
		if err := json.Unmarshal(text, &known); err != nil {
			return nil, err
		}
		if known.SPKI != spki.String() {
			return nil, fault.New(fault.Conflict, "generation %d was issued for another key", request.GetGeneration())
		}
		return known.Chain, nil
	}
	root, err := p.signer()
	if err != nil {
		return nil, err
	}
	chain, err := root.Sign(p.order(d, csr))
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(record{spki.String(), chain})
	if err != nil {
		return nil, err
	}
	return chain, os.WriteFile(at, text, 0o600)
}

func (p *Plane) order(d *api.DesiredPlacement, csr *x509.CertificateRequest) Order {
	o := Order{
		Public: csr.PublicKey, CommonName: d.GetIdentity().GetCommonName(), DNS: d.GetIdentity().GetDnsNames(),
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(d.GetProfile().GetLifetime().AsDuration()),
	}
	for _, text := range d.GetIdentity().GetIpAddresses() {
		o.IPs = append(o.IPs, net.ParseIP(text))
	}
	for _, usage := range d.GetProfile().GetUsages() {
		o.Usages = append(o.Usages, map[string]x509.ExtKeyUsage{"serverAuth": x509.ExtKeyUsageServerAuth, "clientAuth": x509.ExtKeyUsageClientAuth}[usage])
	}
	p.mu.Lock()
	twist := p.twist
	p.twist = nil
	p.mu.Unlock()
	if twist != nil {
		twist(&o)
	}
	return o
}
