package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

func drawSerial(t *rapid.T, label string) (Serial, int64) {
	ms := rapid.Int64Range(1, 1<<47-1).Draw(t, label+" ms")
	random := rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, label+" random")
	s, err := NewSerial(time.UnixMilli(ms), bytes.NewReader(random))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s[6:], random) || s.Time().UnixMilli() != ms {
		t.Fatalf("serial %s of %d ms and %x", s, ms, random)
	}
	return s, ms
}

func TestSerialLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, aMs := drawSerial(t, "a")
		b, bMs := drawSerial(t, "b")
		if a.Big().Sign() <= 0 || a.Big().BitLen() > 127 || a.IsZero() {
			t.Fatalf("%s is not a positive number of at most 127 bits", a)
		}
		if back, err := ParseSerial(a.String()); err != nil || back != a {
			t.Fatalf("%s reads back as %s, %v", a, back, err)
		}
		if back, err := ParseSerial(strings.ToUpper(a.String())); err != nil || back != a {
			t.Fatalf("%s in capitals reads back as %s, %v", a, back, err)
		}
		if back, err := SerialOf(&x509.Certificate{SerialNumber: a.Big()}); err != nil || back != a {
			t.Fatalf("%s in a certificate reads back as %s, %v", a, back, err)
		}
		if aMs < bMs && (a.Big().Cmp(b.Big()) >= 0 || a.String() >= b.String()) {
			t.Fatalf("%s of %d ms is not before %s of %d ms", a, aMs, b, bMs)
		}
		if a.Shard() >= Shards || a.Shard() != byte(new(big.Int).Mod(a.Big(), big.NewInt(Shards)).Int64()) {
			t.Fatalf("%s is in shard %d", a, a.Shard())
		}
	})
}

func TestSerialNeedsAFitClockAndRandomness(t *testing.T) {
	for _, at := range []time.Time{time.UnixMilli(0), time.UnixMilli(-1), time.UnixMilli(1 << 47), {}} {
		if _, err := NewSerial(at, rand.Reader); err == nil {
			t.Errorf("a serial was made at %s", at)
		}
	}
	if _, err := NewSerial(now, iotest.ErrReader(errors.New("dry"))); err == nil {
		t.Error("a serial was made without randomness")
	}
	if _, err := NewSerial(now, strings.NewReader("short")); err == nil {
		t.Error("a serial was made with half of its randomness")
	}
}

func TestBadSerials(t *testing.T) {
	for text, rule := range map[string]string{
		"":                                  "32 hexadecimal digits",
		strings.Repeat("0", 32):             "positive",
		"8" + strings.Repeat("0", 31):       "negative",
		"1" + strings.Repeat("0", 30):       "32 hexadecimal digits",
		"0x" + strings.Repeat("1", 30):      "hexadecimal digits only",
		"1" + strings.Repeat("0", 30) + " ": "hexadecimal digits only",
	} {
		if _, err := ParseSerial(text); err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("%q: got %v, want %q", text, err, rule)
		}
	}
	for _, n := range []*big.Int{nil, big.NewInt(0), big.NewInt(-5), new(big.Int).Lsh(big.NewInt(1), 127)} {
		if _, err := SerialOf(&x509.Certificate{SerialNumber: n}); err == nil {
			t.Errorf("serial number %s was taken", n)
		}
	}
}
