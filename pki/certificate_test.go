package pki

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestStrictPEM(t *testing.T) {
	h := newHierarchy(t)
	one := EncodeCertificatesPEM(h.a.cert.Raw)
	two := EncodeCertificatesPEM(h.a.cert.Raw, h.b.cert.Raw)
	key, err := EncodeKeyPEM(h.a.key)
	if err != nil {
		t.Fatal(err)
	}
	join := func(parts ...any) []byte {
		var out []byte
		for _, part := range parts {
			switch p := part.(type) {
			case string:
				out = append(out, p...)
			case []byte:
				out = append(out, p...)
			}
		}
		return out
	}
	damaged := bytes.Replace(one, []byte("MII"), []byte("M!I"), 1)
	cases := []struct {
		name string
		data []byte
		want int    // certificates
		rule string // of the refusal
	}{
		{"one", one, 1, ""},
		{"two", two, 2, ""},
		{"white space around", join("\n \n", one, "\n\n\t", one, " \n"), 2, ""},
		{"Windows lines", bytes.ReplaceAll(two, []byte("\n"), []byte("\r\n")), 2, ""},
		{"no last newline", bytes.TrimSpace(one), 1, ""},
		{"empty", nil, 0, "is empty"},
		{"white space", []byte(" \n"), 0, "is empty"},
		{"text before", join("# root\n", one), 0, "text that is not PEM stands before block 1"},
		{"text between", join(one, "x\n", one), 0, "before block 2"},
		{"text after", join(one, "garbage"), 0, "before block 2"},
		{"text behind the END line", join(bytes.TrimSpace(one), "garbage\n"), 0, "damaged"},
		{"cut", one[:len(one)/2], 0, "no END line"},
		{"cut in the END line", one[:len(one)-8], 0, "damaged"},
		{"second cut", join(one, one[:len(one)-30]), 0, "block 2"},
		{"damaged base64", join(damaged, one), 0, "block 1 is damaged"},
		{"a block in a block", join(one[:60], "\n", one), 0, "block 1 is damaged"},
		{"key", key, 0, "every block must be a CERTIFICATE"},
		{"key behind", join(one, key), 0, "block 2 is a PRIVATE KEY"},
		{"no certificate inside", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0, "parse certificate"},
		{"header", bytes.Replace(one, []byte("-----\n"), []byte("-----\nA: b\n\n"), 1), 0, "headers"},
		{"too long", bytes.Repeat([]byte(" "), MaxPEM+1), 0, "the most is"},
		{"steering a terminal", []byte("-----BEGIN \x1b[2J-----\nAAAA\n-----END \x1b[2J-----\n"), 0, "?[2J"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			certs, err := ParseCertificatesPEM(c.data)
			if c.rule != "" {
				if err == nil || !strings.Contains(err.Error(), c.rule) {
					t.Errorf("got %v, want %q", err, c.rule)
				}
				return
			}
			if err != nil || len(certs) != c.want {
				t.Errorf("%d certificates, %v", len(certs), err)
			}
		})
	}
	if certs, err := ParseCertificatesPEM(two); err != nil || !certs[0].Equal(h.a.cert) || !certs[1].Equal(h.b.cert) {
		t.Errorf("other certificates, or another order: %v", err)
	}
	if _, err := ParseCertificateDER(slices.Concat(h.a.cert.Raw, []byte{0})); err == nil {
		t.Error("bytes behind a certificate were taken")
	}
	if _, err := ParseCertificateDER(make([]byte, MaxCertificateDER+1)); err == nil || !strings.Contains(err.Error(), "the most is") {
		t.Errorf("oversized: %v", err)
	}
}

func TestChainForms(t *testing.T) {
	h := newHierarchy(t)
	chain := chainOf(h.leaf, h.issuing, h.bridge)
	back, err := ParseChainDER(chain.DER())
	if err != nil || !slices.EqualFunc(back.DER(), chain.DER(), bytes.Equal) {
		t.Fatalf("reads back otherwise: %v", err)
	}
	if certs, err := ParseCertificatesPEM(chain.PEM()); err != nil || len(certs) != 3 || !certs[0].Equal(h.leaf.cert) {
		t.Errorf("PEM: %d certificates, %v", len(certs), err)
	}
	for _, ders := range [][][]byte{nil, {nil}, append(chain.DER(), h.a.cert.Raw)} {
		if _, err := ParseChainDER(ders); err == nil {
			t.Errorf("a chain of %d elements was taken", len(ders))
		}
	}
}
