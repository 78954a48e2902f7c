package ocsp

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	reference "golang.org/x/crypto/ocsp"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

func TestAnswersAsTheReferenceReadsThem(t *testing.T) {
	h := newHouse(t)
	revoked := now.Add(-time.Hour)
	for name, c := range map[string]struct {
		single Single
		want   reference.Response
	}{
		"good":             {Single{Status: Good}, reference.Response{Status: reference.Good}},
		"unknown":          {Single{Status: Unknown}, reference.Response{Status: reference.Unknown}},
		"revoked":          {Single{Status: Revoked, RevokedAt: revoked}, reference.Response{Status: reference.Revoked, RevokedAt: revoked}},
		"revoked, and why": {Single{Status: Revoked, RevokedAt: revoked, Reason: ca.Reasons["keyCompromise"]}, reference.Response{Status: reference.Revoked, RevokedAt: revoked, RevocationReason: reference.KeyCompromise}},
	} {
		t.Run(name, func(t *testing.T) {
			c.single.ID, c.single.This, c.single.Next = h.certID(t), now, now.Add(12*time.Hour)
			der, err := h.responder.Sign(now, []Single{c.single}, nil)
			must(t, err)
			got, err := reference.ParseResponseForCert(der, h.leaf, h.authority.Certificate)
			must(t, err)
			if got.Status != c.want.Status || !got.RevokedAt.Equal(c.want.RevokedAt.Truncate(time.Second)) || got.RevocationReason != c.want.RevocationReason {
				t.Errorf("status %d, revoked at %s for %d", got.Status, got.RevokedAt, got.RevocationReason)
			}
			this, next := now.Truncate(time.Second), now.Add(12*time.Hour).Truncate(time.Second)
			if !got.ThisUpdate.Equal(this) || !got.NextUpdate.Equal(next) || !got.ProducedAt.Equal(this) {
				t.Errorf("from %s to %s, produced at %s", got.ThisUpdate, got.NextUpdate, got.ProducedAt)
			}
			key := sum(crypto.SHA1, mustKeyBits(t, h.responder.Certificate))
			if !bytes.Equal(got.ResponderKeyHash, key) || got.RawResponderName != nil || !got.Certificate.Equal(h.responder.Certificate) {
				t.Error("the responder is not named by its key, or its certificate is not there")
			}
		})
	}
}

func mustKeyBits(t testing.TB, cert *x509.Certificate) []byte {
	t.Helper()
	bits, err := keyBits(cert)
	must(t, err)
	return bits
}

func TestAnswersThatAreNotSigned(t *testing.T) {
	for want, der := range map[reference.ResponseStatus][]byte{
		reference.Malformed: Malformed, reference.InternalError: Internal, reference.TryLater: TryLater, reference.Unauthorized: Unauthorized,
	} {
		_, err := reference.ParseResponse(der, nil)
		var status reference.ResponseError
		if !errors.As(err, &status) || status.Status != want {
			t.Errorf("%x: %v, want %s", der, err, want)
		}
	}
}

// Nobody becomes a responder by a certificate that is for something else, or of
// another authority.
func TestWhoMayNotAnswer(t *testing.T) {
	h, other := newHouse(t), newHouse(t)
	names, err := pki.ParseNames("OCSP responder", nil, nil, "")
	must(t, err)
	strong, err := pki.ECDSAP384.Generate()
	must(t, err)
	prepared, err := h.authority.PrepareResponder(now, strong.Public(), names, time.Hour, time.Minute)
	must(t, err)
	strongCert := h.issue(t, prepared)
	prepared, err = h.authority.Prepare(now, ca.Request{PublicKey: h.key.Public(), Names: names, Terms: ca.Terms{
		Lifetime: time.Hour, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}})
	must(t, err)
	leaf := h.issue(t, prepared)
	issuer := h.authority.Certificate
	for name, c := range map[string]struct {
		issuer, cert *x509.Certificate
		key          crypto.Signer
	}{
		"another's key":       {issuer, h.responder.Certificate, other.key},
		"another's authority": {other.authority.Certificate, h.responder.Certificate, h.key},
		"a leaf":              {issuer, leaf, h.key},
		"another kind of key": {issuer, strongCert, strong},
	} {
		if _, err := NewResponder(c.issuer, c.cert, c.key); fault.CodeOf(err) != fault.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
