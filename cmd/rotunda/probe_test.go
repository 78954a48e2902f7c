package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// probeScene is a TLS server with a private CA, and that CA's file.
type probeScene struct {
	address, ca, client string
}

func newProbeScene(t *testing.T, mode tls.ClientAuthType, notAfter time.Time, withRoot bool) probeScene {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(template, parent *x509.Certificate) *x509.Certificate {
		template.SerialNumber = big.NewInt(time.Now().UnixNano())
		template.NotBefore = time.Now().Add(-2 * time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	root := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Test root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	}
	root = issue(root, root)
	leaf := issue(&x509.Certificate{
		Subject:  pkix.Name{CommonName: "db \x1b[31mred"},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1).To4()},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotAfter: notAfter,
	}, root)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	chain := [][]byte{leaf.Raw}
	if withRoot {
		chain = append(chain, root.Raw)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}, ClientAuth: mode, ClientCAs: pool}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() }()
		}
	}()
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keyPEM, err := pki.EncodeKeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	return probeScene{
		address: listener.Addr().String(),
		ca:      write("ca.pem", pki.EncodeCertificatesPEM(root.Raw)),
		client:  write("client.pem", append(pki.EncodeCertificatesPEM(leaf.Raw), keyPEM...)),
	}
}

func rotunda(args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = run(args, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestProbeShowsAndJudges(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	open := newProbeScene(t, tls.NoClientCert, hour, false)
	rooted := newProbeScene(t, tls.NoClientCert, hour, true)
	mutual := newProbeScene(t, tls.RequireAndVerifyClientCert, hour, false)
	stale := newProbeScene(t, tls.NoClientCert, time.Now().Add(-time.Hour), false)
	for name, c := range map[string]struct {
		args []string
		code int
		out  []string
		errs string
	}{
		"without a CA":     {[]string{open.address}, exitOK, []string{"served, and it holds the key", "localhost", "TLS 1.3", "X25519MLKEM768", "not verified: give --ca", "no certificate is asked for", "Test root"}, ""},
		"trusted":          {[]string{open.address, "--ca", open.ca}, exitOK, []string{"trusted"}, ""},
		"a root too many":  {[]string{rooted.address, "--ca", rooted.ca}, exitOK, []string{"trusted by most clients", "root"}, ""},
		"another CA":       {[]string{open.address, "--ca", mutual.ca}, exitError, []string{"served, and it holds the key"}, "--ca does not trust"},
		"another name":     {[]string{open.address, "--ca", open.ca, "--server-name", "db.example"}, exitError, []string{"db.example"}, "db.example"},
		"expired":          {[]string{stale.address, "--ca", stale.ca}, exitError, []string{"1h ago"}, "expired"},
		"mutual, without":  {[]string{mutual.address, "--ca", mutual.ca}, exitOK, []string{"a client without one is rejected", "CN=Test root"}, ""},
		"mutual, with":     {[]string{mutual.address, "--ca", mutual.ca, "--cert", mutual.client}, exitOK, []string{"the one given is accepted"}, ""},
		"mutual, wrong":    {[]string{mutual.address, "--ca", mutual.ca, "--cert", open.client}, exitError, []string{"the one given is rejected"}, "rejects the client certificate"},
		"wrong preamble":   {[]string{open.address, "--preamble", "nats", "--timeout", "500ms"}, exitError, []string{"timeout at preamble"}, "hint:"},
		"no address":       {nil, exitUsage, nil, "hint:"},
		"no port":          {[]string{"localhost"}, exitUsage, nil, "HOST:PORT"},
		"strange preamble": {[]string{open.address, "--preamble", "telnet"}, exitError, nil, "mysql, nats, postgres"},
		"strange version":  {[]string{open.address, "--min-version", "2"}, exitUsage, nil, "1.3"},
		"no such CA file":  {[]string{open.address, "--ca", "/nowhere.pem"}, exitError, nil, "/nowhere.pem"},
		"a CA of garbage":  {[]string{open.address, "--ca", "probe_test.go"}, exitError, nil, "read CAs from probe_test.go"},
		"key alone":        {[]string{open.address, "--key", open.client}, exitUsage, nil, "--key needs --cert"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := rotunda(append([]string{"probe"}, c.args...)...)
			if code != c.code || !strings.Contains(errs, c.errs) || (c.errs == "" && errs != "") {
				t.Errorf("exit %d, want %d; stderr: %s", code, c.code, errs)
			}
			for _, word := range c.out {
				if !strings.Contains(out, word) {
					t.Errorf("%q is missing from:\n%s", word, out)
				}
			}
			if strings.Contains(out+errs, "\x1b") {
				t.Errorf("the server steers the terminal: %q", out+errs)
			}
		})
	}
}

func TestProbeSpeaksJSONAndYAML(t *testing.T) {
	scene := newProbeScene(t, tls.NoClientCert, time.Now().Add(time.Hour), false)
	code, out, errs := rotunda("probe", scene.address, "--ca", scene.ca, "-o", "json")
	if code != exitOK {
		t.Fatal(errs)
	}
	var seen struct {
		Outcome, Protocol string
		Trusted           *bool
		Leaf              struct{ Fingerprint string }
		Certificates      []struct {
			Names       []string
			Fingerprint string
		}
	}
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Outcome != "served" || seen.Protocol != "TLS 1.3" || seen.Trusted == nil || !*seen.Trusted ||
		len(seen.Certificates) != 1 || seen.Certificates[0].Fingerprint != seen.Leaf.Fingerprint ||
		!strings.Contains(strings.Join(seen.Certificates[0].Names, " "), "localhost") {
		t.Errorf("%s", out)
	}
	if code, out, _ := rotunda("probe", scene.address, "-o", "yaml"); code != exitOK || !strings.Contains(out, "trusted: null\n") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}
