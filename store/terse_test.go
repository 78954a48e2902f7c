package store_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

// TestDictionariesStand: nothing is read without the dictionary that it was packed
// by. Where this fails a new dictionary is called for, and a form of its own.
func TestDictionariesStand(t *testing.T) {
	for name, want := range map[string]string{
		"1-certificates.txt": "dc3bd413f632e23781ad14ab181337b978683df9e7b044db465a01771325f6fd",
		"1-entries.txt":      "0d18219fe079a0ef493d21303d3aa60167a9881b59ddef8441a311f664a9fdd1",
	} {
		content, err := os.ReadFile(filepath.Join("dictionary", name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s has changed: it is %s", name, got)
		}
	}
}

// TestPackedRowsStand: what a store has from before is read.
func TestPackedRowsStand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	db := open(t, path)
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	want := store.Certificate{
		Serial: pki.Serial{0: 1, 15: 2}, Kind: store.KindLeaf, AuthorityID: "0199c2f4-6a51-7c1e-8000-000000000001", PlacementID: "p", Generation: 1, AgentID: "agent-1", Intent: "orders-db",
		Names: "db.example.org 192.0.2.1", PolicyInput: []byte(`{"Service":"orders","Intent":"orders-db","Profile":"databases","Agent":{"ID":"agent-1"},"DNSNames":["db.example.org"]}`), Rule: "databases/allow",
		NotBefore: start, NotAfter: start.Add(time.Hour), IssuedAt: start,
		DER: []byte("0\x82 /O=issuing of prod/ 300102030405Z300102040405Z /crl/0199c2f4-6a51-7c1e-8000-000000000001/ db.example.org \x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"),
	}
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		by := store.Authority{ID: want.AuthorityID, Name: "issuing", Kind: store.IssuingAuthority, State: fleet.AuthorityActive, Origin: store.KeyHere, Certificate: []byte("/O=issuing of prod/")}
		if err := tx.InsertAuthority(t.Context(), by); err != nil {
			return err
		}
		return tx.InsertCertificates(t.Context(), want)
	})
	if err != nil {
		t.Fatal(err)
	}
	const before = "01e06db44da8011500080076e25f03424d03007d2e0103245b221b05225d7d3082204acc0014201b031b04204ea2002000012f201b05201b01"
	raw := storetest.Raw(t, path)
	old, err := hex.DecodeString(before)
	if err != nil {
		var now string
		_ = raw.QueryRow(`SELECT hex(der) FROM certificate`).Scan(&now)
		t.Fatalf("now %s", now)
	}
	if _, err := raw.Exec(`UPDATE certificate SET der = $1`, old); err != nil {
		t.Fatal(err)
	}
	err = db.Read(t.Context(), func(tx *store.Tx) error {
		got, err := tx.Certificate(t.Context(), want.Serial)
		if string(got.DER) != string(want.DER) || string(got.PolicyInput) != string(want.PolicyInput) || got.Rule != want.Rule {
			t.Errorf("%+v", got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
