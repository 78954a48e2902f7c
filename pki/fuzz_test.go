package pki

import (
	"bytes"
	"crypto/x509"
	"testing"
)

// Each target holds the law that what is taken reads back the same.

func FuzzParseCertificatesPEM(f *testing.F) {
	h := newHierarchy(f)
	f.Add(EncodeCertificatesPEM(h.a.cert.Raw))
	f.Add(chainOf(h.leaf, h.issuing, h.bridge).PEM())
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := ParseCertificatesPEM(data)
		if err != nil {
			return
		}
		var ders [][]byte
		for _, cert := range certs {
			ders = append(ders, cert.Raw)
		}
		again, err := ParseCertificatesPEM(EncodeCertificatesPEM(ders...))
		if err != nil || len(again) != len(certs) || len(certs) == 0 {
			t.Fatalf("%d certificates, then %d, %v", len(certs), len(again), err)
		}
	})
}

func FuzzParseBundlePEM(f *testing.F) {
	h := newHierarchy(f)
	f.Add(EncodeCertificatesPEM(h.a.cert.Raw, h.b.cert.Raw))
	f.Add(EncodeCertificatesPEM(h.bridge.cert.Raw))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBundlePEM(data)
		if err != nil {
			return
		}
		again, err := ParseBundlePEM(b.PEM())
		if err != nil || again.Digest() != b.Digest() || b.Empty() || !bytes.Equal(again.PEM(), b.PEM()) {
			t.Fatalf("bundle %s, then %s, %v", b.Digest(), again.Digest(), err)
		}
	})
}

func FuzzParseKeyPEM(f *testing.F) {
	for _, algorithm := range []KeyAlgorithm{ECDSAP256, Ed25519, RSA2048} {
		key, err := algorithm.Generate()
		if err != nil {
			f.Fatal(err)
		}
		data, err := EncodeKeyPEM(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := ParseKeyPEM(data)
		if err != nil {
			return
		}
		encoded, err := EncodeKeyPEM(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseKeyPEM(encoded); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseCSR(f *testing.F) {
	key, err := ECDSAP256.Generate()
	if err != nil {
		f.Fatal(err)
	}
	der, err := NewCSR(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, data []byte) {
		csr, err := ParseCSR(data)
		if err != nil {
			return
		}
		if _, err := AlgorithmOf(csr.PublicKey); err != nil {
			t.Fatal(err)
		}
		if err := csr.CheckSignature(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseCSRPEM(f *testing.F) {
	key, err := ECDSAP256.Generate()
	if err != nil {
		f.Fatal(err)
	}
	der, err := NewCSR(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(EncodeCSRPEM(der))
	f.Add(append(EncodeCSRPEM(der), EncodeCSRPEM(der)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		csr, err := ParseCSRPEM(data)
		if err != nil {
			return
		}
		again, err := ParseCSRPEM(EncodeCSRPEM(csr.Raw))
		if err != nil || !bytes.Equal(again.Raw, csr.Raw) {
			t.Fatalf("it reads back as another, %v", err)
		}
	})
}

func FuzzParseSerial(f *testing.F) {
	f.Add("019aa3f8c4e0" + "00112233445566778899")
	f.Add("ffffffffffffffffffffffffffffffff")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSerial(text)
		if err != nil {
			return
		}
		if again, err := ParseSerial(s.String()); err != nil || again != s || s.Big().Sign() <= 0 {
			t.Fatalf("%q is %s, then %s, %v", text, s, again, err)
		}
	})
}

// FuzzVerify feeds certificates from outside to everything that reads their
// extensions.
func FuzzVerify(f *testing.F) {
	h := newHierarchy(f)
	f.Add(h.leaf.cert.Raw, h.issuing.cert.Raw, h.b.cert.Raw)
	f.Fuzz(func(t *testing.T, leaf, issuing, anchor []byte) {
		chain, err := ParseChainDER([][]byte{leaf, issuing})
		if err != nil {
			return
		}
		bundle, _ := ParseBundleDER([][]byte{anchor})
		if chain.Verify(bundle, x509.ExtKeyUsageServerAuth, now) == nil && !goTakes(chain, bundle) {
			t.Fatal("Go refuses what Verify takes")
		}
	})
}
