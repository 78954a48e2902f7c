package server_test

import (
	"bytes"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/pki"
)

func TestHealth(t *testing.T) {
	p := fleettest.NewPlane(t)
	for _, listener := range []string{p.Config.Listen.Public, p.Config.Listen.Metrics} {
		for path, want := range map[string]string{"/livez": "alive\n", "/readyz": "ready\n"} {
			if got := fetch(t, "http://"+listener+path); string(got) != want {
				t.Errorf("%s says %q", path, got)
			}
		}
	}
}

// Each URL that stands in a certificate leads to what it promises, and what was
// revoked is on the list that the certificate names.
func TestURLsInCertificates(t *testing.T) {
	p := fleettest.NewPlane(t)
	agent := newAgent(t, p, nil)
	leaf, err := x509.ParseCertificate(agent.cert.Certificate[0])
	must(t, err)
	issuer, err := x509.ParseCertificate(fetch(t, leaf.IssuingCertificateURL[0]))
	must(t, err)
	must(t, leaf.CheckSignatureFrom(issuer))

	list := func() *x509.RevocationList {
		crl, err := x509.ParseRevocationList(fetch(t, leaf.CRLDistributionPoints[0]))
		must(t, err)
		must(t, crl.CheckSignatureFrom(issuer))
		return crl
	}
	before := list()
	if len(before.RevokedCertificateEntries) != 0 {
		t.Errorf("revoked already: %v", before.RevokedCertificateEntries)
	}
	_, err = p.RetireAgent(t.Context(), fleettest.Operator, &api.RetireAgentRequest{AgentId: agent.id})
	must(t, err)
	after := list()
	if len(after.RevokedCertificateEntries) != 1 || after.RevokedCertificateEntries[0].SerialNumber.Cmp(leaf.SerialNumber) != 0 {
		t.Errorf("revoked: %v, want serial %v", after.RevokedCertificateEntries, leaf.SerialNumber)
	}
	if after.Number.Cmp(before.Number) <= 0 {
		t.Errorf("CRL number %v after %v", after.Number, before.Number)
	}
}

func TestBundleOverHTTP(t *testing.T) {
	p := fleettest.NewPlane(t)
	got, err := pki.ParseBundlePEM(fetch(t, "http://"+p.Config.Listen.Public+"/bundle.pem"))
	must(t, err)
	want, err := p.DomainBundle(t.Context())
	must(t, err)
	if got.Digest() != want.Digest() {
		t.Errorf("bundle %s, want %s", got.Digest(), want.Digest())
	}
}

func TestNothingElseIsPublic(t *testing.T) {
	p := fleettest.NewPlane(t)
	base := "http://" + p.Config.Listen.Public
	crl := "/crl/" + p.IssuingNow().ID
	for _, path := range []string{
		"/", "/metrics", "/crl/nosuch/1.crl", crl + "/128.crl", crl + "/-1.crl", crl + "/1", crl + "/x.crl",
		"/ca/nosuch.crt", "/ca/" + p.IssuingNow().ID, "/log/tile/0/999", "/log/tile/entries/000.p/255", "/log/tile/64/000",
		"/log/tile/0/00", "/log/tile/../../rotunda.db", "/rotunda.v1.OperatorService/Info",
	} {
		if code, body := get(t, base+path); code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	response, err := http.Post(base+"/bundle.pem", "text/plain", strings.NewReader("x"))
	must(t, err)
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a POST gets %s", response.Status)
	}
}

// Whoever has the log's key alone can check all of it over plain HTTP, by the
// tiles of C2SP tlog-tiles.
func TestLogOverHTTP(t *testing.T) {
	p := fleettest.NewPlane(t)
	const many = 300 // more than a tile holds
	for range many {
		p.Token(nil)
	}
	base := "http://" + p.Config.Listen.Public + "/log/"
	verifier, err := note.NewVerifier(p.LogKey())
	must(t, err)
	var checkpoint audit.Checkpoint
	p.Await("all entries in the log", func([]*api.PlacementStatus) bool {
		checkpoint, err = audit.OpenCheckpoint(fetch(t, base+"checkpoint"), p.Origin(), verifier)
		must(t, err)
		return checkpoint.Size > many
	})
	var entries [][]byte
	for index := uint64(0); uint64(len(entries)) < checkpoint.Size; index++ {
		width := int(min(checkpoint.Size-index*audit.TileWidth, audit.TileWidth))
		hashes := fetch(t, base+audit.Tile{Index: index, Width: width}.Path())
		bundle, err := audit.ParseEntries(fetch(t, base+audit.Tile{Entries: true, Index: index, Width: width}.Path()))
		must(t, err)
		if len(bundle) != width || len(hashes) != 32*width {
			t.Fatalf("tile %d: %d entries and %d bytes of hashes, want %d", index, len(bundle), len(hashes), width)
		}
		for i, content := range bundle {
			leaf := audit.LeafHash(content)
			if !bytes.Equal(leaf[:], hashes[32*i:32*(i+1)]) {
				t.Fatalf("the hash of entry %d is not in the tile", index*audit.TileWidth+uint64(i))
			}
			if _, err := audit.Decode(content); err != nil {
				t.Error(err)
			}
		}
		entries = append(entries, bundle...)
	}
	verify := func(entries [][]byte) error {
		return audit.VerifyLog(func(yield func([]byte, error) bool) {
			for _, content := range entries {
				if !yield(content, nil) {
					return
				}
			}
		}, checkpoint)
	}
	must(t, verify(entries))
	entries[7] = bytes.Replace(entries[7], []byte("done"), []byte("gone"), 1)
	if verify(entries) == nil {
		t.Error("an entry that was changed verifies")
	}
}
