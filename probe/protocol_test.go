package probe

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// onOld is a server that does something of its own with a client that offers
// nothing newer than TLS 1.1.
func onOld(config *tls.Config, act func(hello *tls.ClientHelloInfo, before int64)) *tls.Config {
	config.MinVersion = tls.VersionTLS10
	var before atomic.Int64
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Max(hello.SupportedVersions) < tls.VersionTLS12 {
			act(hello, before.Add(1)-1)
		}
		return nil, nil
	}
	return config
}

func TestProtocolsBelowTheLowestAreRefused(t *testing.T) {
	hangUp := func(hello *tls.ClientHelloInfo, _ int64) { _ = hello.Conn.Close() }
	both := []string{"TLS 1.0", "TLS 1.1"}
	for name, c := range map[string]struct {
		config  func(*tls.Config) *tls.Config
		lowest  uint16
		refused []string // proven
		cause   Cause    // not proven
		words   []string
	}{
		"1.2, as it should":       {config: lowest(tls.VersionTLS12), lowest: tls.VersionTLS12, refused: both},
		"1.3, as it should":       {config: lowest(tls.VersionTLS13), lowest: tls.VersionTLS13, refused: []string{"TLS 1.0", "TLS 1.1", "TLS 1.2"}},
		"better than it has to":   {config: lowest(tls.VersionTLS13), lowest: tls.VersionTLS12, refused: both},
		"1.1, as it should":       {config: lowest(tls.VersionTLS11), lowest: tls.VersionTLS11, refused: both[:1]},
		"nothing is too old":      {config: lowest(tls.VersionTLS10), lowest: tls.VersionTLS10},
		"nobody wants to know":    {config: lowest(tls.VersionTLS10)},
		"1.2 where 1.3 is due":    {config: lowest(tls.VersionTLS12), lowest: tls.VersionTLS13, cause: CauseProtocol, words: []string{"speaks TLS 1.2", "expected TLS 1.3 or newer"}},
		"1.1 where 1.2 is due":    {config: lowest(tls.VersionTLS11), lowest: tls.VersionTLS12, cause: CauseProtocol, words: []string{"speaks TLS 1.1", "expected TLS 1.2 or newer"}},
		"1.0 where 1.1 is due":    {config: lowest(tls.VersionTLS10), lowest: tls.VersionTLS11, cause: CauseProtocol, words: []string{"speaks TLS 1.0"}},
		"1.0 and then only 1.3":   {config: onlyEnds, lowest: tls.VersionTLS13, cause: CauseProtocol, words: []string{"speaks TLS 1.1"}},
		"by hanging up":           {config: func(c *tls.Config) *tls.Config { return onOld(c, hangUp) }, lowest: tls.VersionTLS12, refused: both},
		"only weak suites for it": {config: weakest, lowest: tls.VersionTLS12, cause: CauseProtocol, words: []string{"speaks TLS 1.1"}},
		"a network that fails once": {
			config: func(c *tls.Config) *tls.Config {
				return onOld(c, func(hello *tls.ClientHelloInfo, before int64) {
					if before%2 == 0 {
						_ = hello.Conn.Close()
					}
				})
			},
			lowest: tls.VersionTLS12, cause: CauseProtocol, words: []string{"speaks TLS 1.1", "it flips"}},
		"silence": {
			config: func(c *tls.Config) *tls.Config {
				return onOld(c, func(hello *tls.ClientHelloInfo, _ int64) { _, _ = io.Copy(io.Discard, hello.Conn) })
			},
			lowest: tls.VersionTLS12, cause: CausePath, words: []string{"offered TLS 1.1 or older", "timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t, "A")
			leaf := ca.leaf(t)
			expected := expect(ca, serveTLS(t, c.config(&tls.Config{Certificates: []tls.Certificate{leaf}})), leaf, leaf)
			expected.MinProtocol = c.lowest
			switch c.cause {
			case Fits:
				expected = patient(expected)
			case CausePath:
				expected.Spec.Timeout = expected.Timeout / 4
			}
			if slices.Contains(c.words, "it flips") {
				expected.Timeout = 4 * time.Second // for two passes on a busy machine
			}
			verdict, seen := Prove(context.Background(), expected)
			if verdict.Proven != (c.cause == "") || verdict.Cause != c.cause {
				t.Fatalf("%+v", verdict)
			}
			for _, word := range c.words {
				if !strings.Contains(verdict.Reason, word) {
					t.Errorf("%q is missing from: %s", word, verdict.Reason)
				}
			}
			if last := seen[len(seen)-1]; !slices.Equal(last.RefusedProtocols, c.refused) {
				t.Errorf("refused %q, want %q", last.RefusedProtocols, c.refused)
			}
		})
	}
}

func lowest(version uint16) func(*tls.Config) *tls.Config {
	return func(c *tls.Config) *tls.Config { c.MinVersion = version; return c }
}

// onlyEnds speaks the newest protocol, and old ones, and none in between.
func onlyEnds(c *tls.Config) *tls.Config {
	old := c.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	c.MinVersion = tls.VersionTLS13
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
			return nil, nil
		}
		return old, nil
	}
	return c
}

// weakest has for old protocols a suite that crypto/tls does not offer.
func weakest(c *tls.Config) *tls.Config {
	c.MinVersion, c.CipherSuites = tls.VersionTLS10, []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}
	return c
}

// TestOpenSSLsPolicyIsWhatIsSeen: what a server says that it speaks is not
// what counts; its OpenSSL may not let it, and then it refuses in fact.
func TestOpenSSLsPolicyIsWhatIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		flags []string
		rsa   bool
		cause Cause
	}{
		"the policy lets it":         {[]string{"-min_protocol", "TLSv1", "-cipher", "DEFAULT@SECLEVEL=0"}, false, CauseProtocol},
		"the policy does not":        {[]string{"-min_protocol", "TLSv1", "-cipher", "DEFAULT@SECLEVEL=2"}, false, Fits},
		"too old a signature for it": {[]string{"-min_protocol", "TLSv1", "-cipher", "DEFAULT@SECLEVEL=1"}, false, Fits},
		"keys by RSA alone":          {[]string{"-min_protocol", "TLSv1", "-cipher", "kRSA:@SECLEVEL=0"}, true, CauseProtocol},
		"it says 1.2":                {[]string{"-min_protocol", "TLSv1.2", "-cipher", "DEFAULT@SECLEVEL=0"}, false, Fits},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t, "A")
			leaf := ca.leaf(t)
			if c.rsa {
				leaf = rsaLeaf(t, ca)
			}
			address, _ := opensslServer(t, ca, leaf, c.flags...)
			expected := expect(ca, address, leaf, leaf)
			if c.cause == Fits {
				expected = patient(expected)
			}
			if verdict, _ := Prove(context.Background(), expected); verdict.Cause != c.cause {
				t.Errorf("%+v", verdict)
			}
		})
	}
}

func rsaLeaf(t *testing.T, ca authority) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "db.example"}, DNSNames: []string{"db.example"},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	certificate := sign(t, template, ca.issuing, key.Public(), ca.key)
	return tls.Certificate{Certificate: [][]byte{certificate.Raw, ca.issuing.Raw}, PrivateKey: key, Leaf: certificate}
}
