package pki

import (
	"bytes"
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 a key that must be refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
)

func TestKeysReadBack(t *testing.T) {
	for _, algorithm := range []KeyAlgorithm{ECDSAP256, ECDSAP384, Ed25519, RSA2048} {
		key, err := algorithm.Generate()
		if err != nil {
			t.Fatal(err)
		}
		if found, err := AlgorithmOf(key.Public()); found != algorithm || err != nil {
			t.Errorf("%s recognised as %q, %v", algorithm, found, err)
		}
		data, err := EncodeKeyPEM(key)
		if err != nil || !bytes.HasPrefix(data, []byte("-----BEGIN PRIVATE KEY-----")) {
			t.Errorf("%s: %v", algorithm, err)
		}
		back, err := ParseKeyPEM(data)
		if err != nil || !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(back.Public()) {
			t.Errorf("%s reads back otherwise: %v", algorithm, err)
		}
	}
}

func TestOlderKeyForms(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	for _, data := range [][]byte{block, append(parameters, block...)} {
		if key, err := ParseKeyPEM(data); err != nil || !ec.PublicKey.Equal(key.Public()) {
			t.Errorf("SEC 1: %v", err)
		}
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := ParseKeyPEM(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})); err != nil || !rsaKey.PublicKey.Equal(key.Public()) {
		t.Errorf("PKCS #1: %v", err)
	}
}

func TestBadKeys(t *testing.T) {
	h := newHierarchy(t)
	good, err := EncodeKeyPEM(h.a.key)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := EncodeKeyPEM(p224)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		data []byte
		rule string
	}{
		"empty":       {nil, "is empty"},
		"garbage":     {[]byte("garbage"), "not PEM"},
		"cut":         {good[:50], "no END line"},
		"certificate": {EncodeCertificatesPEM(h.a.cert.Raw), "must be a PRIVATE KEY"},
		"two keys":    {append(bytes.Clone(good), good...), "there must be one"},
		"encrypted":   {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), "encrypted"},
		"old cipher":  {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "AES"}, Bytes: []byte{1}}), "encrypted"},
		"no key":      {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), "does not parse"},
		"weak":        {weak, "P-256 or P-384"},
		"too long":    {bytes.Repeat([]byte(" "), maxKeyPEM+1), "the most is"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseKeyPEM(c.data); err == nil || !strings.Contains(err.Error(), c.rule) {
				t.Errorf("got %v, want %q", err, c.rule)
			}
		})
	}
}

func TestWeakPublicKeys(t *testing.T) {
	modulus := func(bits uint) *big.Int { return new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1) }
	for name, c := range map[string]struct {
		key  crypto.PublicKey
		rule string
	}{
		"RSA-1024":        {&rsa.PublicKey{N: modulus(1024), E: 65537}, "too weak"},
		"RSA-2047":        {&rsa.PublicKey{N: modulus(2047), E: 65537}, "too weak"},
		"RSA-2049":        {&rsa.PublicKey{N: modulus(2049), E: 65537}, "2048, 3072 or 4096"},
		"RSA-8192":        {&rsa.PublicKey{N: modulus(8192), E: 65537}, "2048, 3072 or 4096"},
		"RSA exponent 3":  {&rsa.PublicKey{N: modulus(2048), E: 3}, "exponent 3"},
		"RSA exponent 2n": {&rsa.PublicKey{N: modulus(2048), E: 65538}, "exponent 65538"},
		"P-521":           {&ecdsa.PublicKey{Curve: elliptic.P521()}, "P-256 or P-384"},
		"short Ed25519":   {ed25519.PublicKey("short"), "Ed25519 key of 5 bytes"},
		"DSA":             {&dsa.PublicKey{}, "*dsa.PublicKey"},
		"nothing":         {nil, "key refused"},
	} {
		if _, err := AlgorithmOf(c.key); err == nil || !strings.Contains(err.Error(), c.rule) || !strings.Contains(err.Error(), "use one of ecdsa-p256") {
			t.Errorf("%s: got %v, want %q and the list", name, err, c.rule)
		}
	}
	if a, err := ParseKeyAlgorithm(""); a != ECDSAP256 || err != nil {
		t.Errorf("the default is %s, %v", a, err)
	}
	if _, err := ParseKeyAlgorithm("rsa-1024"); err == nil {
		t.Error("rsa-1024 was taken")
	}
	if _, err := KeyAlgorithm("").Generate(); err == nil {
		t.Error("a key of no algorithm was made")
	}
}

func TestRequests(t *testing.T) {
	h := newHierarchy(t)
	der, err := NewCSR(h.leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ParseCSR(der)
	if err != nil || !h.leaf.cert.PublicKey.(*ecdsa.PublicKey).Equal(csr.PublicKey) {
		t.Fatalf("own request: %v", err)
	}
	if csr.Subject.String() != "" || len(csr.Extensions) != 0 {
		t.Errorf("a request of ours says %q %v", csr.Subject, csr.Extensions)
	}
	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := NewCSR(p224)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		der  []byte
		rule string
	}{
		"empty":       {nil, "is empty"},
		"too long":    {make([]byte, MaxCSR+1), "the most is 16384"},
		"garbage":     {[]byte("garbage"), "does not parse"},
		"trailing":    {append(bytes.Clone(der), 0), "does not parse"},
		"certificate": {h.a.cert.Raw, "does not parse"},
		"forged":      {forged, "not signed by the key"},
		"weak":        {weak, "P-256 or P-384"},
	} {
		if _, err := ParseCSR(c.der); err == nil || !strings.Contains(err.Error(), c.rule) {
			t.Errorf("%s: got %v, want %q", name, err, c.rule)
		}
	}
	if KeyMatches(h.a.key, h.b.cert) || !KeyMatches(h.a.key, h.a.cert) {
		t.Error("KeyMatches takes another key, or not its own")
	}
}
