package terse_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/terse"
)

const entry = `{"actor":{"address":"10.1.2.3:45678","id":"0199c2f4-6a51-7c1e-8000-000000000001","kind":"agent","serial":"019a3f2c7b5e1d4c6f8a9b0c1d2e3f40"},` +
	`"detail":{"fingerprint":"01a3525554a7d5650fc661dea925e31699bcea840826d460d16293ef287a9a8a","notAfter":"2026-11-28T00:17:12Z"},"time":"2026-11-27T20:17:12.278327Z"}`

func dictionary(t testing.TB, parts ...string) *terse.Dictionary {
	t.Helper()
	var all [][]byte
	for _, part := range parts {
		all = append(all, []byte(part))
	}
	d, err := terse.NewDictionary(nil, all...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestNothingIsLost: each record comes back as it was, whatever it is like.
func TestNothingIsLost(t *testing.T) {
	d := dictionary(t, entry)
	random := make([]byte, 3000)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	for _, record := range []string{
		"", "x", entry, entry + entry, strings.ReplaceAll(entry, "0199c2f4", "0299c2f4"), string(random), "\x00\x01\x02\x03\x04\x05\x06\x07\x08", "\x0b\x12\x15\x19\x1a\x1b\x1c\x1d",
		strings.Repeat("\x1a", 100), strings.Repeat("ab", 700), strings.Repeat("a", 17), "0199c2f4-6a51-7c1e-8000-00000000000", "0199c2f4-6a51-7c1e-8000_000000000001",
		"0199C2F4-6A51-7C1E-8000-000000000001", "2026-11-27T20:17:12Z", "2026-02-30T20:17:12Z", "1969-12-31T23:59:59Z", "1960-01-01T00:00:00.000001Z", "9999-12-31T23:59:59.999999Z",
		"2026-11-27T24:00:00Z", "2026-11-27T20:17:12,278327Z", "2026-11-27T20:17:60.000000Z", "0000-01-01T00:00:00.000000Z", "2026-",
	} {
		stored := d.Pack([]byte(record))
		if len(stored) > len(record)+1 || !terse.IsPacked(stored) {
			t.Errorf("%.40q: %d bytes became %d", record, len(record), len(stored))
		}
		back, err := d.Unpack(stored)
		if err != nil || string(back) != record {
			t.Errorf("%.40q: %v, %.40q", record, err, back)
		}
	}
}

// TestLengths: what is alike may be of any length, in the record and in the
// dictionary, at any distance.
func TestLengths(t *testing.T) {
	long := strings.Repeat("no part of it is like another: ", 40)
	for i := range 40 {
		long += fmt.Sprintf("<%d>", i*i*i)
	}
	d := dictionary(t, long, entry)
	for length := range 1200 {
		for _, record := range []string{strings.Repeat("~", length), long[:length], "-" + long[len(long)-length:] + "-", entry + strings.Repeat(".", length) + entry} {
			if back, err := d.Unpack(d.Pack([]byte(record))); err != nil || string(back) != record {
				t.Fatalf("%d bytes: %v, %.40q", len(record), err, back)
			}
		}
	}
	big := strings.Repeat(long+entry, 40)
	if back, err := d.Unpack(d.Pack([]byte(big))); err != nil || string(back) != big {
		t.Errorf("%d bytes: %v", len(big), err)
	}
}

// TestLargeDictionary: no offset is longer than the form has room for.
func TestLargeDictionary(t *testing.T) {
	large := bytes.Repeat([]byte("="), 60_000)
	for i := range 1000 { // what is found first, and lies farthest
		large[i] = ' ' + byte(rand.N(64))
	}
	d := dictionary(t, string(large))
	for before := range 80 {
		record := append(bytes.Repeat([]byte("~"), 100*before), large[:200]...)
		if back, err := d.Unpack(d.Pack(record)); err != nil || !bytes.Equal(back, record) {
			t.Fatalf("behind %d bytes: %v", 100*before, err)
		}
	}
}

// TestLikeTheDictionary: what differs from it is what takes room, as bytes.
func TestLikeTheDictionary(t *testing.T) {
	d := dictionary(t, entry)
	other := strings.NewReplacer("0001", "00a1", "1d4c6f8a9b0c1d2e3f40", "2e4c6f8a9b0c1d2e3f41", "525554a7d565", "33558d65c33a", "12.278327", "13.444444").Replace(entry)
	if n := len(d.Pack([]byte(other))); n > len(other)/3 {
		t.Errorf("%d bytes became %d", len(other), n)
	}
}

// TestBeside: what stands beside a record is not stored again, and a record that
// is unpacked beside something else is none.
func TestBeside(t *testing.T) {
	d := dictionary(t, "there is nothing like it here")
	id, address, short := []byte("0199c2f4-6a51-7c1e-8000-000000000001"), []byte("10.1.2.3:45678"), []byte(":")
	alone, beside := d.Pack([]byte(entry)), d.Pack([]byte(entry), short, nil, id, address)
	if len(beside) > len(alone)-25 {
		t.Errorf("%d bytes, and %d beside what is known", len(alone), len(beside))
	}
	if back, err := d.Unpack(beside, short, nil, id, address); err != nil || string(back) != entry {
		t.Errorf("%v, %q", err, back)
	}
	for _, others := range [][][]byte{nil, {short, nil, id}, {short, nil, address, id}} {
		if _, err := d.Unpack(beside, others...); err == nil {
			t.Errorf("beside %q it is read too", others)
		}
	}
	many := make([][]byte, 100)
	for i := range many {
		many[i] = fmt.Appendf(nil, "the value of number %d", i)
	}
	record := bytes.Join(many, []byte{' '})
	if back, err := d.Unpack(d.Pack(record, many...), many...); err != nil || !bytes.Equal(back, record) {
		t.Errorf("beside many: %v, %q", err, back)
	}
}

// TestDamaged: neither changed bytes nor another dictionary give another record.
func TestDamaged(t *testing.T) {
	d, other := dictionary(t, entry), dictionary(t, strings.ToUpper(entry))
	stored := d.Pack([]byte(entry))
	if _, err := other.Unpack(stored); err == nil {
		t.Error("another dictionary will do")
	}
	for i := range stored {
		changed := bytes.Clone(stored)
		changed[i] ^= 0x10
		if back, err := d.Unpack(changed); err == nil {
			t.Errorf("byte %d changed: %q", i, back)
		}
	}
	for i := range stored {
		if _, err := d.Unpack(stored[:i]); err == nil {
			t.Errorf("cut off after %d bytes", i)
		}
	}
}

// TestTheFormStands: stores have records in it. Where this fails a new form is
// called for, beside this one.
func TestTheFormStands(t *testing.T) {
	d := dictionary(t, "what records of a kind have in common ", entry)
	other := strings.NewReplacer("10.1.2.3", "10.1.2.40", "0001", "00a1", "1d4c6f8a9b0c1d2e3f40", "2e4c6f8a9b0c1d2e3f41", "00:17:12Z", "01:17:12Z").Replace(entry)
	const stored = "01e1f605edd2016ed10004343076d20000a18ad200002e11d2004111d2150040042b9801d215000804227d"
	old, err := hex.DecodeString(stored)
	if err != nil {
		t.Fatalf("%v; now %x", err, d.Pack([]byte(other)))
	}
	if back, err := d.Unpack(old); err != nil || string(back) != other {
		t.Errorf("%v, %q", err, back)
	}
	if _, err := terse.NewDictionary([]byte("too short"), nil); err == nil {
		t.Error("a dictionary of a few bytes is taken")
	}
}

func FuzzPack(f *testing.F) {
	d := dictionary(f, entry)
	f.Add([]byte(entry), []byte("0199c2f4-6a51-7c1e-8000-000000000001"))
	f.Add([]byte("0199c2f4-6a51-7c1e-8000-000000000001\x12\x1b2026-11-27T20:17:12Z"), []byte("11-27"))
	f.Fuzz(func(t *testing.T, record, beside []byte) {
		if back, err := d.Unpack(d.Pack(record, beside), beside); err != nil || !bytes.Equal(back, record) {
			t.Fatalf("%v: %q came back as %q", err, record, back)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	d := dictionary(f, entry)
	f.Add(d.Pack([]byte(entry)))
	f.Add([]byte{1, 0, 0, 0, 0, 2, 4, 4})
	f.Fuzz(func(t *testing.T, stored []byte) {
		_, _ = d.Unpack(stored, []byte("known")) // it may be refused, and no more
	})
}

func BenchmarkPack(b *testing.B) {
	d, record := dictionary(b, strings.ToUpper(entry), entry), []byte(strings.Replace(entry, "01a3525554a7d5650fc661dea925e316", "a1b2c3d4e5f60718293a4b5c6d7e8f90", 1))
	for b.Loop() {
		b.ReportMetric(float64(len(d.Pack(record))), "B")
	}
}

func BenchmarkUnpack(b *testing.B) {
	d := dictionary(b, entry)
	stored := d.Pack([]byte(entry))
	for b.Loop() {
		if _, err := d.Unpack(stored); err != nil {
			b.Fatal(err)
		}
	}
}
