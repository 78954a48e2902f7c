package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/pki"
)

// What is signed is byte for byte what crypto/x509 would have encoded, for each
// kind of key.
func TestCRLIsAsCryptoX509EncodesIt(t *testing.T) {
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519, pki.RSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			h := newHouse(t, pki.ECDSAP256, algorithm)
			var revoked []Revocation
			var reference []x509.RevocationListEntry
			for i, reason := range []string{"unspecified", "keyCompromise", "certificateHold"} {
				serial, err := pki.NewSerial(now, rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				serial[15] = 5
				at := now.AddDate(15*i, 0, 0) // beyond 2050, too
				revoked = append(revoked, Revocation{serial, at, reason, at})
				reference = append(reference, x509.RevocationListEntry{SerialNumber: serial.Big(), RevocationTime: at.Truncate(time.Second), ReasonCode: Reasons[reason]})
			}
			for _, shard := range []int{5, WholeList} {
				for n := range len(revoked) + 1 {
					terms := hourFrom(now, 1<<41+int64(n))
					signed, err := h.issuing.SignCRL(shard, terms, wholeIf(shard, listing(t, revoked[:n]...)))
					if err != nil {
						t.Fatal(err)
					}
					want := &x509.RevocationList{
						Number: big.NewInt(terms.Number), ThisUpdate: terms.This.Truncate(time.Second), NextUpdate: terms.Next.Truncate(time.Second),
						RevokedCertificateEntries: reference[:n],
					}
					if shard != WholeList {
						point, err := issuingDistributionPoint(h.issuing.CRLURL(byte(shard)))
						if err != nil {
							t.Fatal(err)
						}
						want.ExtraExtensions = []pkix.Extension{point}
					}
					compareCRL(t, h, signed, want)
				}
			}
		})
	}
}

func compareCRL(t *testing.T, h house, signed SignedCRL, template *x509.RevocationList) {
	t.Helper()
	reference, err := x509.CreateRevocationList(rand.Reader, template, h.issuing.Certificate, h.issuing.signer)
	if err != nil {
		t.Fatal(err)
	}
	want, err := x509.ParseRevocationList(reference)
	if err != nil {
		t.Fatal(err)
	}
	got, err := x509.ParseRevocationList(signed.DER())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.RawTBSRevocationList, want.RawTBSRevocationList) {
		t.Errorf("encoded\n%x\nand crypto/x509\n%x", got.RawTBSRevocationList, want.RawTBSRevocationList)
	}
	if err := got.CheckSignatureFrom(h.issuing.Certificate); err != nil {
		t.Error(err)
	}
}

// Entries, whatever is done to them, are what a map of revocations would be,
// also after each was signed and read back.
func TestEntriesAreWhatWasPutThere(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	rapid.Check(t, func(t *rapid.T) {
		entries, model := NewEntries(0), map[pki.Serial]time.Time{}
		pick := func() pki.Serial { return pki.Serial{1, byte(rapid.IntRange(0, 12).Draw(t, "serial"))} }
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				ends := now.Add(time.Duration(rapid.IntRange(-100, 100).Draw(t, "minutes")) * time.Minute).Truncate(time.Minute)
				serial := pick()
				entries.Remove(serial)
				if err := entries.Add(Revocation{serial, now, "superseded", ends}); err != nil {
					t.Fatal(err)
				}
				model[serial] = ends
			},
			"remove": func(*rapid.T) {
				serial := pick()
				entries.Remove(serial)
				delete(model, serial)
			},
			"drop": func(t *rapid.T) {
				then := now.Add(time.Duration(rapid.IntRange(-100, 100).Draw(t, "minutes")) * time.Minute).Truncate(time.Minute)
				entries.DropEnded(then)
				for serial, ends := range model {
					if ends.Before(then) {
						delete(model, serial)
					}
				}
			},
			"sign and read": func(t *rapid.T) {
				signed, err := h.issuing.SignCRL(0, hourFrom(now, 1), entries)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(slices.Concat(signed.Head, entries.DER(), signed.Tail), signed.DER()) {
					t.Fatal("head, entries and tail are not the list")
				}
				list, err := x509.ParseRevocationList(signed.DER())
				if err != nil || len(list.RevokedCertificateEntries) != entries.Len() {
					t.Fatal(err)
				}
				if entries, err = ReadEntries(0, entries.DER(), entries.Ends()); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				if entries.Len() != len(model) {
					t.Fatalf("%d entries, want %d", entries.Len(), len(model))
				}
				for serial := range model {
					if !entries.Has(serial) {
						t.Fatalf("%s is missing", serial)
					}
				}
			},
		})
	})
}

func TestStoredEntriesThatAreNotOurs(t *testing.T) {
	var serial pki.Serial
	serial[0] = 1
	entries := listing(t, Revocation{serial, now, "superseded", now})
	for name, c := range map[string]struct{ der, ends []byte }{
		"no ends": {entries.DER(), nil}, "too many ends": {entries.DER(), make([]byte, 8)}, "half an end": {entries.DER(), make([]byte, 5)},
		"no entries": {[]byte("x"), nil}, "a cut one": {entries.DER()[:20], entries.Ends()}, "ends alone": {nil, entries.Ends()},
	} {
		if _, err := ReadEntries(0, c.der, c.ends); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// What is dropped is what ended before, to the nanosecond, whenever that is.
func TestDropEndedToTheNanosecond(t *testing.T) {
	end := time.Date(2026, 3, 1, 14, 2, 0, 0, time.UTC)
	for then, stays := range map[time.Time]bool{
		end: true, end.Add(-time.Nanosecond): true, end.Add(time.Nanosecond): false, end.Add(time.Minute): false,
		time.Unix(-90, 0): true, time.Unix(0, 1): true, {}: true, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): false,
	} {
		entries := NewEntries(0)
		if err := entries.Add(Revocation{At: end, Ends: end}); err != nil {
			t.Fatal(err)
		}
		if entries.DropEnded(then); (entries.Len() == 1) != stays {
			t.Errorf("dropped before %s: %d stay", then, entries.Len())
		}
	}
}
