package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	reference "golang.org/x/crypto/ocsp"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

var stapledDocuments = strings.Replace(documents, "usages: [serverAuth]}", "usages: [serverAuth], revocation: {staple: true}}", 1)

func (d *domain) tendStaples() int {
	d.t.Helper()
	n, err := d.TendStaples(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// staple is what the host is to have beside its newest certificate; nil: none.
func (h *host) staple() (digest string, der []byte) {
	h.domain.t.Helper()
	digest = h.desired().StapleDigest
	if digest == "" {
		return "", nil
	}
	return digest, h.blob(digest)
}

func (h *host) blob(digest string) []byte {
	h.domain.t.Helper()
	response, err := h.domain.FetchBlobs(context.Background(), h.caller, &api.FetchBlobsRequest{Digests: []string{digest}})
	if err != nil {
		h.domain.t.Fatal(err)
	}
	der := response.Blobs[0].Staple
	if pki.FingerprintOf(der).String() != digest {
		h.domain.t.Fatalf("blob %s is of another digest", digest)
	}
	return der
}

func (d *domain) wantStapleOf(der []byte, leaf *x509.Certificate) *reference.Response {
	d.t.Helper()
	response, err := reference.ParseResponseForCert(der, leaf, d.issuingNow().Certificate)
	if err != nil {
		d.t.Fatal(err)
	}
	if response.Status != reference.Good || response.Certificate.NotAfter.Before(response.NextUpdate) {
		d.t.Errorf("a staple of status %d that ends at %s, and its signer at %s", response.Status, response.NextUpdate, response.Certificate.NotAfter)
	}
	return response
}

// A placement has one staple for its certificate, the same at each look and from
// each server, until it has aged; and its agent is woken when it changes alone.
func TestStapleIsStable(t *testing.T) {
	d := found(t)
	d.apply(strings.ReplaceAll(stapledDocuments, "lifetime: 24h", "lifetime: 30d"))
	h, leaf := d.ordersHost("a")
	if digest, _ := h.staple(); digest != "" {
		t.Fatalf("a staple %s that nobody made", digest)
	}
	if !h.desired().Profile.Staple {
		t.Error("the profile wants staples, and its terms do not tell the agent")
	}
	wake, stop := d.WatchAgent(h.id)
	defer stop()
	woken := func() bool {
		select {
		case <-wake:
			return true
		default:
			return false
		}
	}
	if n := d.tendStaples(); n != 1 || !woken() {
		t.Fatalf("%d staples were made", n)
	}
	first, der := h.staple()
	dates := d.wantStapleOf(der, leaf)
	if until := h.desired().StapleUntil.AsTime(); !until.Equal(dates.NextUpdate) || !until.Equal(dates.ThisUpdate.Add(stapleLife)) {
		t.Errorf("desired until %s, from %s to %s", until, dates.ThisUpdate, dates.NextUpdate)
	}
	d.restart()
	wake, stop = d.WatchAgent(h.id)
	defer stop()
	d.enrolled()
	woken() // by that
	d.clock.turn(stapleLife*2/5 - time.Minute)
	if n := d.tendStaples(); n != 0 || woken() {
		t.Errorf("%d were made again, and nothing had changed", n)
	}
	if again, _ := h.staple(); again != first {
		t.Error("another staple is wanted")
	}
	d.clock.turn(stapleLife/5 + 2*time.Minute)
	if n := d.tendStaples(); n != 1 || !woken() {
		t.Errorf("%d were made of one that has aged", n)
	}
	second, der := h.staple()
	if later := d.wantStapleOf(der, leaf); second == first || !later.ThisUpdate.After(dates.ThisUpdate) {
		t.Error("it was not made anew")
	}
	h.blob(first) // who was told of it fetches it yet
	d.clock.turn(stapleLife * 2 / 5)
	d.tendStaples()
	_, err := d.FetchBlobs(t.Context(), h.caller, &api.FetchBlobsRequest{Digests: []string{first}})
	wantCode(t, err, fault.NotFound)
}

// A revoked certificate loses its staple at once and gets no other, also where
// the revocation comes while one is made; its successor has its own.
func TestNoStapleForWhatIsRevoked(t *testing.T) {
	d := found(t)
	d.apply(stapledDocuments)
	h, _ := d.ordersHost("a")
	due, err := d.dueStaples(t.Context())
	if err != nil || len(due) != 1 {
		t.Fatalf("%d are due, %v", len(due), err)
	}
	d.tendStaples()
	if digest, _ := h.staple(); digest == "" {
		t.Fatal("no staple")
	}
	d.revoke(&api.RevokeRequest{Serial: due[0].Serial.String(), Reason: "keyCompromise", Note: "seen in a dump", Now: true})
	if digest, _ := h.staple(); digest != "" {
		t.Error("a revoked certificate has a staple that says that it is good")
	}
	d.clock.turn(stapleLife * 4 / 5)
	if agents, err := d.makeStaples(t.Context(), due); err != nil || len(agents) != 0 {
		t.Errorf("a staple was put in place for what was revoked meanwhile, %v", err)
	}
	if n := d.tendStaples(); n != 0 {
		t.Errorf("%d staples for what was revoked", n)
	}
	_, request := csr(t)
	second := leafOf(t, h.issue(h.placement(), 2, request))
	if n := d.tendStaples(); n != 1 {
		t.Fatalf("%d staples for its successor", n)
	}
	_, der := h.staple()
	d.wantStapleOf(der, second)
}

// Who does not want one, or can't take it, gets none.
func TestNoStapleWhereNoneIsWanted(t *testing.T) {
	for name, text := range map[string]string{
		"the profile does not say so": documents,
		"the process can't take it":   strings.Replace(stapledDocuments, "  profile: server\n", "  profile: server\n  target: {kind: nats, address: \"localhost:4222\"}\n", 1),
	} {
		t.Run(name, func(t *testing.T) {
			d := found(t)
			d.apply(text)
			h, _ := d.ordersHost("a")
			if n := d.tendStaples(); n != 0 {
				t.Errorf("%d were made", n)
			}
			if digest, _ := h.staple(); digest != "" {
				t.Error("one is wanted")
			}
		})
	}
}

// Two servers make one staple.
func TestTwoServersMakeOneStaple(t *testing.T) {
	d := found(t)
	d.apply(stapledDocuments)
	h, leaf := d.ordersHost("a")
	due, err := d.dueStaples(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	servers := []*Control{d.Control}
	for range 3 {
		other, err := Open(t.Context(), Options{DB: d.db, KEK: d.kek, PublicURL: "http://localhost", Now: d.clock.now, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, other)
	}
	var group sync.WaitGroup
	made := make([]int, len(servers))
	for i, server := range servers {
		group.Go(func() {
			agents, err := server.makeStaples(context.Background(), due)
			if made[i] = len(agents); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	all := 0
	for _, n := range made {
		all += n
	}
	if all != 1 {
		t.Errorf("%d staples were put in place", all)
	}
	first, der := h.staple()
	d.wantStapleOf(der, leaf)
	d.tendStaples()
	if again, same := h.staple(); again != first || !bytes.Equal(der, same) {
		t.Error("it does not stand")
	}
}

// Staples of certificates that were issued together are not made anew together.
func TestStaplesAgeOneAfterTheOther(t *testing.T) {
	this, spread := time.Now(), map[int]int{}
	for range 1000 {
		serial, err := pki.NewSerial(this, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		share := float64(refreshStapleAt(serial, this, this.Add(stapleLife)).Sub(this)) / float64(stapleLife)
		if share < 0.4-1e-6 || share > 0.6 {
			t.Fatalf("made anew after %.3f of its life", share)
		}
		spread[int((share-0.4)*50+1e-3)]++
	}
	for tenth, n := range spread {
		if n > 200 {
			t.Errorf("%d of 1000 within the tenth %d", n, tenth)
		}
	}
}
