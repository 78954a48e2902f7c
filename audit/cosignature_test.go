package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// newCosigner makes a witness's key.
func newCosigner(t *testing.T, name string) (ed25519.PrivateKey, string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := append([]byte{4}, public...)
	hash := sha256.Sum256(append([]byte(name+"\n"), key...))
	return private, fmt.Sprintf("%s+%x+%s", name, hash[:4], base64.StdEncoding.EncodeToString(key))
}

// cosign is a cosignature line, as C2SP tlog-cosignature has it.
func cosign(key ed25519.PrivateKey, vkey string, signed []byte, at uint64) string {
	name, rest, _ := strings.Cut(vkey, "+")
	text, _, _ := strings.Cut(string(signed), "\n\n")
	var hash uint32
	fmt.Sscanf(rest, "%08x", &hash)
	signature := binary.BigEndian.AppendUint32(nil, hash)
	signature = binary.BigEndian.AppendUint64(signature, at)
	signature = append(signature, ed25519.Sign(key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at, text))...)
	return "— " + name + " " + base64.StdEncoding.EncodeToString(signature) + "\n"
}

func TestCosigners(t *testing.T) {
	signer, log := newKey(t, "example.org/audit")
	l := newLog(t, 9)
	sign := func(size uint64) []byte {
		msg, err := l.at(t, size).Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	k1, v1 := newCosigner(t, "witness.example/w1")
	k2, v2 := newCosigner(t, "witness.example/w2")
	k3, v3 := newCosigner(t, "witness.example/w3")
	known, err := NewCosigners(v1, v2)
	if err != nil {
		t.Fatal(err)
	}
	const at = 1900000000
	nine, eight := sign(9), sign(8)
	later := cosign(k1, v1, nine, at+1)
	for name, c := range map[string]struct {
		lines string
		want  []string
	}{
		"none":                   {"", nil},
		"one":                    {cosign(k1, v1, nine, at), []string{"witness.example/w1"}},
		"both":                   {cosign(k2, v2, nine, at) + cosign(k1, v1, nine, at), []string{"witness.example/w1", "witness.example/w2"}},
		"a stranger":             {cosign(k3, v3, nine, at), nil},
		"another's key":          {cosign(k3, v1, nine, at), nil},
		"another checkpoint's":   {cosign(k1, v1, eight, at), nil},
		"one lies, one does not": {cosign(k3, v1, nine, at) + cosign(k2, v2, nine, at), []string{"witness.example/w2"}},
		"another time":           {strings.Replace(later, later[:60], cosign(k1, v1, nine, at)[:60], 1), nil},
	} {
		got, err := Cosigners(append(slices.Clone(nine), c.lines...), log, known)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
	if _, err := Cosigners([]byte(strings.Replace(string(nine), "\n9\n", "\n8\n", 1)), log, known); err == nil {
		t.Error("cosigners of what the log did not sign")
	}
	for _, vkey := range []string{"", "x", v1 + "A", strings.Replace(v1, "w1+", "w2+", 1), "a b" + v1, log.Name() + "+00000000+AAAA", v1[:len(v1)-4]} {
		if _, err := NewCosigner(vkey); err == nil {
			t.Errorf("%q is taken for a witness's key", vkey)
		}
	}
}
