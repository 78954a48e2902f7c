package control

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// Two roots of one day have names of their own, and no name comes twice: not
// even that of a root which is withdrawn.
func TestEachRootHasANameOfItsOwn(t *testing.T) {
	d := found(t)
	name := func(wanted string) (name string, err error) {
		err = d.db.Read(t.Context(), func(tx *store.Tx) error {
			name, err = d.nextRootName(t.Context(), tx, wanted)
			return err
		})
		return name, err
	}
	first, err := name("")
	if err != nil {
		t.Fatal(err)
	}
	key, _ := csr(t)
	root, _, err := ca.CreateRoot(d.clock.now(), ca.RootOrder{Key: key, TrustDomain: d.Control.domain, Name: first, Lifetime: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	err = d.db.Write(t.Context(), func(tx *store.Tx) error {
		return tx.InsertAuthority(t.Context(), store.Authority{
			ID: newID(), Name: "root-2", Kind: store.RootAuthority, State: fleet.AuthorityWithdrawn, Origin: store.KeyOffline, Certificate: root.Raw,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if second, err := name(""); err != nil || second == first {
		t.Errorf("the second root of the day is called %q, %v", second, err)
	}
	_, err = name(first)
	wantCode(t, err, fault.Invalid)
}
