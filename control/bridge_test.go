package control

import (
	"bytes"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// A bridge is had by its digest like a bundle; no other authority is.
func TestBridgeByDigest(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	h := d.members(1)[0]
	bridge := []byte("a bridge, as far as the store is concerned")
	err := d.db.Write(t.Context(), func(tx *store.Tx) error {
		authorities, err := tx.Authorities(t.Context())
		if err != nil {
			return err
		}
		root := authorities[0]
		root.ID, root.Name, root.State, root.CrossOf, root.Certificate = "bridge-1", "bridge", fleet.AuthorityPrepared, root.ID, bridge
		return tx.InsertAuthority(t.Context(), root)
	})
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(der []byte) ([]*api.Blob, error) {
		response, err := d.FetchBlobs(t.Context(), h.caller, &api.FetchBlobsRequest{Digests: []string{pki.FingerprintOf(der).String()}})
		return response.GetBlobs(), err
	}
	if blobs, err := fetch(bridge); err != nil || len(blobs) != 1 || !bytes.Equal(blobs[0].Bridge, bridge) || blobs[0].Anchors != nil {
		t.Errorf("%v, %v", blobs, err)
	}
	if _, err := fetch([]byte("another")); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("another: %v", err)
	}
	// The root alone makes a bundle, and its digest is that of the certificate.
	if blobs, err := fetch(d.rootNow().Raw); err != nil || len(blobs) != 1 || len(blobs[0].Anchors) != 1 || blobs[0].Bridge != nil {
		t.Errorf("the root: %v, %v", blobs, err)
	}
}
