package lint_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	zlintlint "github.com/zmap/zlint/v3/lint"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
)

// The lists that authorities sign pass zlint, for every kind of key and scope.
func TestListsAreClean(t *testing.T) {
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.RSA2048} {
		td := spiffeid.RequireTrustDomainFromString("lint.example")
		root, rootKey, err := ca.CreateRoot(now, ca.RootOrder{TrustDomain: td, Name: "root", Algorithm: algorithm, Lifetime: 9000 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		authority, err := ca.NewAuthority("root-1", root, nil, rootKey, "http://crl.lint.example")
		if err != nil {
			t.Fatal(err)
		}
		for _, shard := range []int{ca.WholeList, 7} {
			for _, reason := range []string{"", "keyCompromise", "superseded"} {
				entries := ca.NewEntries(shard)
				if reason != "" {
					serial, err := pki.NewSerial(now, rand.Reader)
					if err != nil {
						t.Fatal(err)
					}
					serial[15] = 7
					if err := entries.Add(ca.Revocation{Serial: serial, At: now, Reason: reason, Ends: now}); err != nil {
						t.Fatal(err)
					}
				}
				signed, err := authority.SignCRL(shard, ca.CRLTerms{Number: now.UnixMilli(), This: now, Next: now.Add(fleet.CRLLife - time.Second)}, entries)
				if err != nil {
					t.Fatal(err)
				}
				list, err := zx509.ParseRevocationList(signed.DER())
				if err != nil {
					t.Fatal(err)
				}
				looked := 0
				for name, result := range zlint.LintRevocationList(list).Results {
					if result.Status >= zlintlint.Pass {
						looked++
					}
					if result.Status > zlintlint.Pass {
						t.Errorf("%s, shard %d, %q: %s: %s %s", algorithm, shard, reason, name, result.Status, result.Details)
					}
				}
				if looked < 4 {
					t.Errorf("zlint looked at %d things", looked)
				}
			}
		}
	}
}
