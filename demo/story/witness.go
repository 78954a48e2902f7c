package story

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rotunda-pki/rotunda/demo/load"
)

// sight is what the demo saw for itself, without asking Rotunda.
type sight struct {
	serial string // hex
	key    [sha256.Size]byte
}

func sightOf(leaf *x509.Certificate) sight {
	return sight{fmt.Sprintf("%032x", leaf.SerialNumber), sha256.Sum256(leaf.RawSubjectPublicKeyInfo)}
}

// look sees what every placement shows now. The keys are the intent and the
// host.
func (d *demo) look(ctx context.Context) (map[string]sight, error) {
	chains, err := d.chains(ctx)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]sight)
	for place, chain := range chains {
		seen[place] = sightOf(chain[0])
	}
	return seen, nil
}

// chains is what every placement shows now: what is served where something
// listens, and else what lies in the directory.
func (d *demo) chains(ctx context.Context) (map[string][]*x509.Certificate, error) {
	seen := make(map[string][]*x509.Certificate)
	for i, h := range d.hosts {
		served := map[string]string{"etcd-clients": h.clients, "etcd-peers": h.peers}
		if i == greeterHost {
			served["greeter"] = d.greeter
		}
		for intent, address := range served {
			chain, err := d.shakeHands(ctx, address, nil)
			if err != nil {
				return nil, fmt.Errorf("look at %s on %s: %w", intent, h.name, err)
			}
			seen[intent+" "+h.name] = chain
		}
	}
	for _, s := range d.installed {
		var prelude func(net.Conn) error
		if s.Kind == "postgres" {
			prelude = load.RequestPostgresTLS
		}
		chain, err := d.shakeHands(ctx, s.Listen, prelude)
		if err != nil {
			return nil, fmt.Errorf("look at %s on %s: %w", s.Kind, s.host.name, err)
		}
		seen[s.Kind+" "+s.host.name] = chain
	}
	orders, err := onDisk(d.hosts[ordersHost].placement("orders"))
	if err != nil {
		return nil, err
	}
	seen["orders "+d.hosts[ordersHost].name] = orders
	return seen, nil
}

// shakeHands returns the chain that is served at the address, after what the
// protocol says before TLS begins. It verifies nothing: who trusts it is for
// the clients at work to say.
func (d *demo) shakeHands(ctx context.Context, address string, prelude func(net.Conn) error) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if prelude != nil {
		if err := prelude(connection); err != nil {
			return nil, err
		}
	}
	client := tls.Client(connection, &tls.Config{
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return load.Certificate(d.hosts[ordersHost].placement("orders"))
		},
	})
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return client.ConnectionState().PeerCertificates, nil
}

// onDisk is the chain that lies in a placement's directory.
func onDisk(directory string) (chain []*x509.Certificate, err error) {
	content, err := os.ReadFile(filepath.Join(directory, "current", "chain.pem"))
	if err != nil {
		return nil, fmt.Errorf("look at the certificate: %w", err)
	}
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("look at the certificate: %w", err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, errors.New("look at the certificate: it is not PEM")
	}
	return chain, nil
}
