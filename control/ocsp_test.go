package control

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
	reference "golang.org/x/crypto/ocsp"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/ocsp"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

// askFor is a request about a certificate.
func (d *domain) askFor(cert *x509.Certificate) []byte {
	d.t.Helper()
	der, err := reference.CreateRequest(cert, d.issuingNow().Certificate, &reference.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		d.t.Fatal(err)
	}
	return der
}

// withNonce puts a nonce into a request that has none.
func withNonce(t testing.TB, request, nonce []byte) []byte {
	t.Helper()
	input := cryptobyte.String(request)
	var outer, tbs cryptobyte.String
	if !input.ReadASN1(&outer, cryptobyte_asn1.SEQUENCE) || !outer.ReadASN1(&tbs, cryptobyte_asn1.SEQUENCE) {
		t.Fatal("no request")
	}
	sequence := cryptobyte_asn1.SEQUENCE
	var b cryptobyte.Builder
	b.AddASN1(sequence, func(b *cryptobyte.Builder) {
		b.AddASN1(sequence, func(b *cryptobyte.Builder) {
			b.AddBytes(tbs)
			b.AddASN1(cryptobyte_asn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(sequence, func(b *cryptobyte.Builder) {
					b.AddASN1(sequence, func(b *cryptobyte.Builder) {
						b.AddASN1(cryptobyte_asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte("\x2b\x06\x01\x05\x05\x07\x30\x01\x02")) })
						b.AddASN1(cryptobyte_asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
					})
				})
			})
		})
	})
	return b.BytesOrPanic()
}

// status is what the responder says of the certificate, as the reference reads it.
func (d *domain) status(cert *x509.Certificate) *reference.Response {
	d.t.Helper()
	return d.read(d.OCSP(d.t.Context(), d.issuingNow().ID, d.askFor(cert)), cert)
}

func (d *domain) read(answer OCSPAnswer, cert *x509.Certificate) *reference.Response {
	d.t.Helper()
	response, err := reference.ParseResponseForCert(answer.DER, cert, d.issuingNow().Certificate)
	if err != nil {
		d.t.Fatal(err)
	}
	return response
}

func wantUnsigned(t testing.TB, answer OCSPAnswer, want reference.ResponseStatus) {
	t.Helper()
	_, err := reference.ParseResponse(answer.DER, nil)
	var status reference.ResponseError
	if !errors.As(err, &status) || status.Status != want {
		t.Errorf("the answer is %v, want %s", err, want)
	}
	if answer.Digest != "" {
		t.Error("an answer that is not signed may be kept by caches")
	}
}

func (d *domain) retire(agent string) {
	d.t.Helper()
	if _, err := d.RetireAgent(d.t.Context(), operator, &api.RetireAgentRequest{AgentId: agent}); err != nil {
		d.t.Fatal(err)
	}
}

// unissued is a certificate that the authority signed and nobody recorded.
func (d *domain) unissued() *x509.Certificate {
	d.t.Helper()
	key, _ := csr(d.t)
	names, err := pki.ParseNames("nobody", nil, nil, "")
	if err != nil {
		d.t.Fatal(err)
	}
	prepared, err := d.issuingNow().Prepare(d.clock.now(), ca.Request{PublicKey: key.Public(), Names: names, Terms: canaryTerms})
	if err != nil {
		d.t.Fatal(err)
	}
	issued, err := d.issuingNow().Issue(prepared)
	if err != nil {
		d.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		d.t.Fatal(err)
	}
	return cert
}

func (d *domain) record(cert *x509.Certificate) (record store.Certificate, err error) {
	d.t.Helper()
	serial, err := pki.SerialOf(cert)
	if err != nil {
		return record, err
	}
	err = d.db.Read(d.t.Context(), func(tx *store.Tx) (err error) {
		record, err = tx.Certificate(d.t.Context(), serial)
		return err
	})
	return record, err
}

func TestOCSPFollowsEachRevocation(t *testing.T) {
	d := found(t)
	id, cert := d.enrolled()
	_, other := d.enrolled()
	for range 2 { // also when it is kept
		if got := d.status(cert); got.Status != reference.Good {
			t.Fatalf("status %d, want good", got.Status)
		}
	}
	d.retire(id)
	got := d.status(cert)
	record, err := d.record(cert)
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != reference.Revoked || !got.RevokedAt.Equal(record.RevokedAt.Truncate(time.Second)) || got.RevocationReason != ca.Reasons[record.Reason] {
		t.Errorf("status %d at %s for %d, the record says %s for %s", got.Status, got.RevokedAt, got.RevocationReason, record.RevokedAt, record.Reason)
	}
	if d.status(other).Status != reference.Good {
		t.Error("another's certificate is not good any more")
	}
	if got := d.status(d.unissued()); got.Status != reference.Unknown {
		t.Errorf("status %d of what was not issued, want unknown", got.Status)
	}
	// What another authority issued is none of this one's.
	elsewhere := d.unissued()
	if err := d.recordUnder(elsewhere, "root"); err != nil {
		t.Fatal(err)
	}
	if got := d.status(elsewhere); got.Status != reference.Unknown {
		t.Errorf("status %d of what another authority issued, want unknown", got.Status)
	}
}

// recordUnder records a certificate as one that another authority issued.
func (d *domain) recordUnder(cert *x509.Certificate, authority string) error {
	d.t.Helper()
	serial, err := pki.SerialOf(cert)
	if err != nil {
		return err
	}
	return d.db.Write(d.t.Context(), func(tx *store.Tx) error {
		by, err := tx.AuthorityByName(d.t.Context(), authority)
		if err != nil {
			return err
		}
		return tx.InsertCertificates(d.t.Context(), store.Certificate{
			Serial: serial, Kind: store.KindCanary, AuthorityID: by.ID, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, IssuedAt: tx.Now, DER: cert.Raw,
		})
	})
}

// A server notices within a second what another has revoked.
func TestOCSPFollowsOtherServers(t *testing.T) {
	d := found(t)
	_, cert := d.enrolled()
	for range 2 { // with the second one all of this server's own commits have been seen
		if d.status(cert).Status != reference.Good {
			t.Fatal("not good")
		}
	}
	other := storetest.Raw(t, d.place)
	at := d.clock.now().UnixMicro()
	for _, text := range []string{"UPDATE certificate SET revoked_at = $1, reason = 'keyCompromise'", "UPDATE store_meta SET last_commit = $1"} {
		if _, err := other.Exec(text, at); err != nil {
			t.Fatal(err)
		}
	}
	d.clock.turn(lookEvery)
	// It revoked the responder's own, too: another one answers.
	before := d.responders()
	if got := d.status(cert); got.Status != reference.Revoked || got.RevocationReason != reference.KeyCompromise {
		t.Errorf("status %d for %d a second later", got.Status, got.RevocationReason)
	}
	if after := d.responders(); after != before+1 {
		t.Errorf("%d responders, %d before its certificate was revoked", after, before)
	}
}

// responders is how many certificates of responders were issued; each has its
// entry in the audit log.
func (d *domain) responders() int {
	d.t.Helper()
	var records []store.Certificate
	err := d.db.Read(d.t.Context(), func(tx *store.Tx) (err error) {
		records, err = tx.Certificates(d.t.Context(), store.CertificateQuery{Kind: store.KindResponder})
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	entries := 0
	for _, line := range d.entries() {
		var entry struct{ Verb string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			d.t.Fatal(err)
		}
		if entry.Verb == "ocsp.responder" {
			entries++
		}
	}
	if entries != len(records) {
		d.t.Errorf("%d certificates of responders, and %d entries", len(records), entries)
	}
	return len(records)
}

func TestOCSPIsKeptUntilItAges(t *testing.T) {
	d := found(t)
	_, cert := d.enrolled()
	ask := func() OCSPAnswer { return d.OCSP(t.Context(), d.issuingNow().ID, d.askFor(cert)) }
	first := ask()
	if first.Digest == "" || first.Fresh <= answerLife/2-time.Minute || first.Fresh > answerLife/2 {
		t.Errorf("fresh for %s, digest %q", first.Fresh, first.Digest)
	}
	d.enrolled() // a commit that has nothing to do with it
	d.clock.turn(answerLife/2 - time.Minute)
	if !bytes.Equal(ask().DER, first.DER) {
		t.Error("it was signed again although nothing had changed")
	}
	d.clock.turn(2 * time.Minute)
	again := d.read(ask(), cert)
	if !again.ThisUpdate.After(first.This) || !again.NextUpdate.Equal(again.ThisUpdate.Add(answerLife)) {
		t.Errorf("after half of its life: from %s to %s, before from %s", again.ThisUpdate, again.NextUpdate, first.This)
	}
}

// Whoever asks with a nonce is answered to it, and for himself.
func TestOCSPWithANonce(t *testing.T) {
	d := found(t)
	_, cert := d.enrolled()
	for _, n := range []int{1, 32, 128} {
		nonce := bytes.Repeat([]byte{byte(n)}, n)
		answer := d.OCSP(t.Context(), d.issuingNow().ID, withNonce(t, d.askFor(cert), nonce))
		if d.read(answer, cert).Status != reference.Good || answer.Digest != "" || !bytes.Contains(answer.DER, nonce) {
			t.Errorf("a nonce of %d is not in the answer, or it may be kept", n)
		}
	}
	wantUnsigned(t, d.OCSP(t.Context(), d.issuingNow().ID, withNonce(t, d.askFor(cert), make([]byte, 129))), reference.Malformed)
}

func TestOCSPThatCantBeAnswered(t *testing.T) {
	d := found(t)
	other := found(t)
	_, cert := d.enrolled()
	_, foreign := other.enrolled()
	issuing := d.issuingNow().ID
	var root string
	err := d.db.Read(t.Context(), func(tx *store.Tx) error {
		all, err := tx.Authorities(t.Context())
		root = all[0].ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantUnsigned(t, d.OCSP(t.Context(), issuing, []byte("x")), reference.Malformed)
	wantUnsigned(t, d.OCSP(t.Context(), issuing, nil), reference.Malformed)
	wantUnsigned(t, d.OCSP(t.Context(), issuing, other.askFor(foreign)), reference.Unauthorized)
	wantUnsigned(t, d.OCSP(t.Context(), root, d.askFor(cert)), reference.Unauthorized)
	for _, made := range []string{"nosuch", "", strings.Repeat("x", 1<<12), "\x00"} {
		wantUnsigned(t, d.OCSP(t.Context(), made, d.askFor(cert)), reference.Unauthorized)
	}
	kept := 0
	d.answers.responders.Range(func(any, any) bool { kept++; return true })
	if kept != 1 {
		t.Errorf("%d responders are kept, for one authority", kept)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	d.answers.pulse.looked = time.Time{}
	wantUnsigned(t, d.OCSP(canceled, issuing, d.askFor(cert)), reference.TryLater)
}

// No thisUpdate goes back with the clock: a little, and it stands; more, and
// nothing is signed.
func TestOCSPWhenTheClockGoesBack(t *testing.T) {
	d := found(t)
	_, one := d.enrolled()
	_, two := d.enrolled()
	first := d.status(one)
	d.clock.turn(-2 * time.Second)
	if second := d.status(two); second.ThisUpdate.Before(first.ThisUpdate) {
		t.Errorf("thisUpdate %s, after %s was said", second.ThisUpdate, first.ThisUpdate)
	}
	d.clock.turn(-time.Minute)
	for _, cert := range []*x509.Certificate{one, two} { // what is kept as well
		wantUnsigned(t, d.OCSP(t.Context(), d.issuingNow().ID, d.askFor(cert)), reference.TryLater)
	}
	d.clock.turn(time.Minute + 2*time.Second)
	if d.status(one).Status != reference.Good {
		t.Error("the clock is right again, and there is no answer")
	}
}

// A clock that went ahead and back since is noticed also where nothing was
// committed meanwhile.
func TestOCSPAfterAClockThatWasAhead(t *testing.T) {
	d := found(t)
	_, one := d.enrolled()
	_, two := d.enrolled()
	d.status(one)
	d.clock.turn(answerLife)
	ahead := d.status(one)
	d.clock.turn(-answerLife)
	answer := d.OCSP(t.Context(), d.issuingNow().ID, d.askFor(two))
	wantUnsigned(t, answer, reference.TryLater)
	d.clock.turn(answerLife)
	if d.status(two).ThisUpdate.Before(ahead.ThisUpdate) {
		t.Error("thisUpdate went back")
	}
}

func TestResponderIsRenewed(t *testing.T) {
	d := found(t)
	_, cert := d.enrolled()
	first := d.status(cert).Certificate
	if n := d.responders(); n != 1 {
		t.Fatalf("%d responders", n)
	}
	if life := first.NotAfter.Sub(d.clock.now()); life < responderLife-time.Minute {
		t.Errorf("it lives for %s", life)
	}
	d.clock.turn(responderLife/2 - time.Minute)
	if !d.status(cert).Certificate.Equal(first) {
		t.Error("it was renewed early")
	}
	d.clock.turn(2 * time.Minute)
	second := d.status(cert)
	if second.Certificate.Equal(first) || bytes.Equal(second.Certificate.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
		t.Error("half of its life is over, and it answers still, or its key does")
	}
	d.restart()
	if third := d.status(cert); third.Certificate.Equal(second.Certificate) || d.responders() != 3 {
		t.Error("a server that starts anew has a key from before")
	}
}

// However many ask at once, one answer is signed for all.
func TestOneAnswerForAllWhoAskAtOnce(t *testing.T) {
	d := found(t)
	_, cert := d.enrolled()
	issuing, request := d.issuingNow().ID, d.askFor(cert)
	var group sync.WaitGroup
	given := make([][]byte, 200)
	for i := range given {
		group.Go(func() { given[i] = d.OCSP(context.Background(), issuing, request).DER })
	}
	group.Wait()
	for _, der := range given {
		if !bytes.Equal(der, given[0]) {
			t.Fatal("two answers were signed")
		}
	}
	if n := d.responders(); n != 1 {
		t.Errorf("%d responders", n)
	}
	// Also for one who looked before it was signed, and comes to sign after.
	kept, ok := d.answers.kept.find(mustCertID(t, request).Key())
	if !ok {
		t.Fatal("nothing is kept")
	}
	late := keptAnswer{single: kept.single, epoch: kept.epoch, by: kept.by}
	if signed, err := d.signKept(t.Context(), kept.by, kept.single.ID, late); err != nil || !bytes.Equal(signed.der, given[0]) {
		t.Errorf("who comes late signs again, %v", err)
	}
	// Nor does one who read the record before it was signed take the answer away.
	d.answers.kept.put(kept.single.ID.Key(), late)
	if !bytes.Equal(d.OCSP(t.Context(), issuing, request).DER, given[0]) {
		t.Error("what was signed is gone")
	}
}

func mustCertID(t testing.TB, request []byte) ocsp.CertID {
	t.Helper()
	parsed, err := ocsp.ParseRequest(request)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.IDs[0]
}

// Who asks for what was never issued fills nothing, and what is kept of what was
// is bounded.
func TestWhatIsKeptIsBounded(t *testing.T) {
	d := found(t)
	_, cert := d.enrolled()
	d.status(cert)
	for range 300 {
		d.status(d.unissued())
	}
	if n := len(d.answers.kept.young) + len(d.answers.kept.old); n != 1 {
		t.Errorf("%d answers are kept, of one certificate", n)
	}
	var kept keptAnswers
	kept.put("in use", keptAnswer{})
	for i := range 3 * mostKept {
		kept.put(strconv.Itoa(i), keptAnswer{})
		if i%100 == 0 {
			if _, ok := kept.find("in use"); !ok {
				t.Fatal("what is in use was dropped")
			}
		}
		if n := len(kept.young) + len(kept.old); n > 2*mostKept {
			t.Fatalf("%d are kept", n)
		}
	}
}

// A flood of requests that must be signed for is told to come later; who asks for
// what is kept is answered, and also when it has aged.
func TestOCSPUnderAFlood(t *testing.T) {
	d := found(t)
	_, cert := d.enrolled()
	issuing, request := d.issuingNow().ID, d.askFor(cert)
	first := d.OCSP(t.Context(), issuing, request)
	for range cap(d.answers.signing.slots) {
		leave, err := d.answers.signing.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
	}
	var group sync.WaitGroup
	for range 4 * mostWaiting {
		group.Go(func() {
			wantUnsigned(t, d.OCSP(t.Context(), issuing, withNonce(t, request, []byte("nonce"))), reference.TryLater)
		})
	}
	if !bytes.Equal(d.OCSP(t.Context(), issuing, request).DER, first.DER) {
		t.Error("what is kept is not given")
	}
	group.Wait()
	d.clock.turn(answerLife/2 + time.Minute)
	if !bytes.Equal(d.OCSP(t.Context(), issuing, request).DER, first.DER) {
		t.Error("what has aged and is still good is not given")
	}
	d.clock.turn(answerLife / 2)
	wantUnsigned(t, d.OCSP(t.Context(), issuing, request), reference.TryLater)
}

// Only so many wait, and only so long.
func TestLaneRefusesWhoCantWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, began := lane{slots: make(chan struct{}, 1)}, time.Now()
		leave, err := l.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range mostWaiting {
			group.Go(func() {
				if _, err := l.enter(t.Context()); !errors.Is(err, errBusy) || time.Since(began) != waitAtMost {
					t.Errorf("who waits has %v after %s", err, time.Since(began))
				}
			})
		}
		synctest.Wait()
		if _, err := l.enter(t.Context()); !errors.Is(err, errBusy) || time.Since(began) != 0 {
			t.Errorf("one too many has %v after %s", err, time.Since(began))
		}
		group.Wait()
		leave()
		if _, err := l.enter(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
