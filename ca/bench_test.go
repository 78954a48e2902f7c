package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// cpu is the time that this process has had of the processors.
func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// measure reports CPU time besides wall time; it is the figure to trust on a
// shared machine.
func measure(b *testing.B, once func() error) {
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		if err := once(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

// BenchmarkIssue is what this package costs per P-256 certificate: "signed"
// from a checked request on, "requested" with the check of the CSR.
func BenchmarkIssue(b *testing.B) {
	h := newHouse(b, pki.ECDSAP256, pki.ECDSAP256)
	key := newKey(b, pki.ECDSAP256)
	csr, err := pki.NewCSR(key)
	if err != nil {
		b.Fatal(err)
	}
	request := Request{key.Public(), names(b, "", []string{"db.example.org"}, []string{"127.0.0.1"}, "spiffe://prod.example.org/db"), dayTerms}
	sign := func() error {
		prepared, err := h.issuing.Prepare(now, request)
		if err != nil {
			return err
		}
		_, err = h.issuing.Issue(prepared)
		return err
	}
	b.Run("signed", func(b *testing.B) { measure(b, sign) })
	b.Run("requested", func(b *testing.B) {
		measure(b, func() error {
			if _, err := pki.ParseCSR(csr); err != nil {
				return err
			}
			return sign()
		})
	})
}

// BenchmarkFloor is what no issuance can do without: one check of a CSR, one
// signature. BenchmarkIssue/requested is to be read against it.
func BenchmarkFloor(b *testing.B) {
	key := newKey(b, pki.ECDSAP256)
	csr, err := pki.NewCSR(key)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(csr)
	measure(b, func() error {
		if _, err := pki.ParseCSR(csr); err != nil {
			return err
		}
		_, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
		return err
	})
}
