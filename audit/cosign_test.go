package audit

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"
)

func newCosigningKey(t testing.TB, name string) CosigningKey {
	t.Helper()
	key, err := NewCosigningKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A key survives its text form, and what it signs verifies by the vkey.
func TestCosigningKey(t *testing.T) {
	signer, log := newKey(t, "example.org/audit")
	cp := newLog(t, 5).at(t, 5)
	signed, err := cp.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ReadCosigningKey(newCosigningKey(t, "witness.example/w1").SecretKey() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	witness, err := NewCosigner(key.Cosigner().VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1900000000, 0).UTC()
	line := key.Cosign(cp, now)
	names, err := Cosigners(append(slices.Clone(signed), line...), log, []Cosigner{witness})
	if err != nil || !slices.Equal(names, []string{"witness.example/w1"}) {
		t.Errorf("cosigners %v, %v", names, err)
	}
	got, err := ReadCosignature(signed, line, witness)
	if err != nil || !got.At.Equal(now) || !bytes.Equal(got.Line, line) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, name := range []string{"", "a b", "a+b", "a\n", strings.Repeat("a", 129)} {
		if _, err := NewCosigningKey(name); err == nil {
			t.Errorf("a key of the name %q", name)
		}
	}
	secret := key.SecretKey()
	for _, text := range []string{"", "x", secret[:len(secret)-4], strings.Replace(secret, "w1", "w2", 1), strings.Replace(secret, "PRIVATE", "PUBLIC", 1)} {
		if _, err := ReadCosigningKey(text); err == nil || strings.Contains(err.Error(), "+") && text == secret {
			t.Errorf("%q is taken for a key", text)
		}
	}
}

// One key under two names is one witness: the signed message has no name in it.
func TestOneKeyIsOneWitness(t *testing.T) {
	key := newCosigningKey(t, "witness.example/w1")
	again := CosigningKey{"witness.example/w2", key.private}
	other := newCosigningKey(t, "witness.example/w1")
	if _, err := NewCosigners(key.Cosigner().VerifierKey(), again.Cosigner().VerifierKey()); err == nil {
		t.Error("one key counts twice")
	}
	if all, err := NewCosigners(key.Cosigner().VerifierKey(), other.Cosigner().VerifierKey()); err != nil || len(all) != 2 {
		t.Errorf("two keys of one name: %v, %v", all, err)
	}
}

// Whatever a witness answers but its own signature of this very checkpoint is
// refused.
func TestReadCosignature(t *testing.T) {
	signer, _ := newKey(t, "example.org/audit")
	l := newLog(t, 9)
	cp := l.at(t, 9)
	signed, err := cp.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	key, stranger := newCosigningKey(t, "witness.example/w1"), newCosigningKey(t, "witness.example/w3")
	impostor := newCosigningKey(t, "witness.example/w1")
	now := time.Unix(1900000000, 0)
	good, strange := string(key.Cosign(cp, now)), string(stranger.Cosign(cp, now))
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(good, "— witness.example/w1 ")))
	if err != nil {
		t.Fatal(err)
	}
	raw[20] ^= 1
	for name, c := range map[string]struct {
		lines string
		good  bool
	}{
		"its own":               {good, true},
		"a stranger's as well":  {strange + good, true},
		"it twice":              {good + good, true},
		"none":                  {"", false},
		"a stranger's":          {strange, false},
		"another key's":         {string(impostor.Cosign(cp, now)), false},
		"a smaller tree's":      {string(key.Cosign(l.at(t, 8), now)), false},
		"another root's":        {string(key.Cosign(Checkpoint{cp.Origin, 9, l.at(t, 8).Root}, now)), false},
		"a changed one":         {string(signatureLine("witness.example/w1", base64.StdEncoding.EncodeToString(raw))), false},
		"no newline":            {strings.TrimSpace(good), false},
		"a note of its own":     {string(signed) + "\n" + good, false},
		"an empty line":         {"\n" + good, false},
		"a page":                {"<html>\n", false},
		"too much":              {strings.Repeat(good, 99), false},
		"a line that is no sig": {good + "— x y\n", false},
	} {
		got, err := ReadCosignature(signed, []byte(c.lines), key.Cosigner())
		if (err == nil) != c.good || err == nil && string(got.Line) != good {
			t.Errorf("%s: %q, %v", name, got.Line, err)
		}
	}
}

func TestAddCheckpoint(t *testing.T) {
	signer, _ := newKey(t, "example.org/audit")
	l := newLog(t, 300)
	signed, err := l.at(t, 300).Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := l.prove(117, 300)
	if err != nil {
		t.Fatal(err)
	}
	body := AddCheckpoint{117, proof, signed}.Encode()
	got, err := ParseAddCheckpoint(body)
	if err != nil || got.Old != 117 || !slices.Equal(got.Proof, proof) || !bytes.Equal(got.Signed, signed) {
		t.Errorf("%+v, %v", got, err)
	}
	if OriginOf(got.Signed) != "example.org/audit" {
		t.Errorf("origin %q", OriginOf(got.Signed))
	}
	text := string(body)
	for name, bad := range map[string]string{
		"nothing": "", "no checkpoint": "old 1\n\n", "a zero too many": strings.Replace(text, "old 117", "old 0117", 1),
		"a sign": strings.Replace(text, "old 117", "old +117", 1), "beyond all sizes": strings.Replace(text, "old 117", "old 9223372036854775808", 1),
		"no old size": strings.TrimPrefix(text, "old 117\n"), "a short hash": strings.Replace(text, "old 117\n", "old 117\nAAAA\n", 1),
		"too many hashes": strings.Replace(text, "old 117\n", "old 117\n"+strings.Repeat(Hash{}.String()+"\n", 64), 1),
		"cut off":         text[:len(text)-1], "too large": text + strings.Repeat("x", MaxAddCheckpoint) + "\n",
	} {
		if got, err := ParseAddCheckpoint([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// What is read is what would be written, byte by byte.
func FuzzParseAddCheckpoint(f *testing.F) {
	f.Add([]byte("old 0\n\nexample.org/audit\n1\nx\n\n— a b\n"))
	f.Add([]byte("old 5\n" + Hash{}.String() + "\n\nx\n"))
	f.Add([]byte("old 05\n\nx\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := ParseAddCheckpoint(body)
		if err == nil && !bytes.Equal(request.Encode(), body) {
			t.Errorf("%q is read as %q", body, request.Encode())
		}
	})
}

// No lines but the witness's own signature come through, in one spelling.
func FuzzReadCosignature(f *testing.F) {
	signer, log := newKey(f, "example.org/audit")
	cp := newLog(f, 3).at(f, 3)
	signed, err := cp.Sign(signer)
	if err != nil {
		f.Fatal(err)
	}
	key := newCosigningKey(f, "witness.example/w1")
	good := key.Cosign(cp, time.Unix(1900000000, 0))
	f.Add(good)
	f.Add(append([]byte("— other AAAAAAAA\n"), good...))
	f.Add([]byte("— witness.example/w1 AAAA\n"))
	f.Fuzz(func(t *testing.T, lines []byte) {
		got, err := ReadCosignature(signed, lines, key.Cosigner())
		if err != nil {
			return
		}
		names, err := Cosigners(append(slices.Clone(signed), got.Line...), log, []Cosigner{key.Cosigner()})
		if err != nil || len(names) != 1 || !bytes.Equal(got.Line, good) {
			t.Errorf("%q comes through as %q: %v, %v", lines, got.Line, names, err)
		}
	})
}

func FuzzReadCosigningKey(f *testing.F) {
	f.Add(newCosigningKey(f, "w").SecretKey())
	f.Add("PRIVATE+KEY+w+00000000+BAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if key, err := ReadCosigningKey(text); err == nil && key.SecretKey() != strings.TrimSpace(text) {
			t.Errorf("%q is read as another key", text)
		}
	})
}

func FuzzNewCosigner(f *testing.F) {
	f.Add(newCosigningKey(f, "w").Cosigner().VerifierKey())
	f.Add("w+00000000+BAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if witness, err := NewCosigner(text); err == nil && !strings.EqualFold(witness.VerifierKey(), text) {
			t.Errorf("%q is read as %q", text, witness.VerifierKey())
		}
	})
}
