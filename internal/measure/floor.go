package measure

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Handshake is the CPU time, in µs, of one full handshake of TLS 1.3 with
// certificates on both sides, over a pipe: of both halves together.
func Handshake(ctx context.Context) (float64, error) {
	const times = 200
	server, client, err := parties()
	if err != nil {
		return 0, err
	}
	before := OwnCPU()
	for range times {
		if err := shakeHands(ctx, server, client); err != nil {
			return 0, fmt.Errorf("a handshake over a pipe: %w", err)
		}
	}
	return float64((OwnCPU() - before).Microseconds()) / times, nil
}

func shakeHands(ctx context.Context, server, client *tls.Config) error {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	failed := make(chan error, 1)
	go func() { failed <- tls.Server(far, server).HandshakeContext(ctx) }()
	conn := tls.Client(near, client)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	go func() { _, _ = conn.Read(make([]byte, 1)) }() // takes the tickets, ends with the pipe
	return <-failed
}

// parties are a server and a client with a self-signed certificate.
func parties() (server, client *tls.Config, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	pairs := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}}
	server = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: pairs, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	client = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: pairs, RootCAs: pool, ServerName: "localhost"}
	return server, client, nil
}
