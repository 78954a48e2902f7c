package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	reference "golang.org/x/crypto/ocsp"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/internal/measure"
	"github.com/rotunda-pki/rotunda/ocsp"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/server"
)

const ocspRequests = 4000 // in a round

// ocsp measures what it costs to answer who asks for the status of a certificate,
// without what the network costs: with the answer that is kept, and with one that
// is signed for a nonce. The floor of the second is a signature and the encoding
// of what was signed.
func (b *bench) ocsp(ctx context.Context) (results []Result, err error) {
	err = onRig(ctx, func(r *rig) error {
		plane := fleettest.NewPlane(r)
		leaf, err := issued(ctx, plane)
		if err != nil {
			return err
		}
		issuer := plane.IssuingNow().Certificate
		plain, err := reference.CreateRequest(leaf, issuer, &reference.RequestOptions{Hash: crypto.SHA1})
		if err != nil {
			return err
		}
		floor, err := newSigned()
		if err != nil {
			return err
		}
		handler, address := server.OCSPHandler(plane.Control), leaf.OCSPServer[0]
		get, err := asking(ctx, handler, http.MethodGet, address+"/"+url.PathEscape(base64.StdEncoding.EncodeToString(plain)), nil)
		if err != nil {
			return err
		}
		nonce, err := asking(ctx, handler, http.MethodPost, address, withNonce(plain))
		if err != nil {
			return err
		}
		var kept, fresh, least []float64
		for range rounds {
			for _, one := range []struct {
				into *[]float64
				work func() error
			}{{&kept, get}, {&fresh, nonce}, {&least, floor}} {
				took, err := cpuEach(one.work)
				if err != nil {
					return err
				}
				*one.into = append(*one.into, took)
			}
		}
		results = []Result{
			{Name: "OCSP answer that is kept, by GET", Value: measure.Median(kept), Unit: "CPU-µs", Target: "≤ 25"},
			{Name: "OCSP answer signed for a nonce, by POST", Value: measure.Median(fresh), Unit: "CPU-µs", Floor: measure.Median(least), Target: "ratio ≤ 1.3"},
		}
		return nil
	})
	return results, err
}

// issued is a certificate that is on record.
func issued(ctx context.Context, plane *fleettest.Plane) (*x509.Certificate, error) {
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return nil, err
	}
	response, err := plane.IssueOperator(ctx, fleettest.Operator, &api.IssueOperatorRequest{Name: "bench", Csr: csr})
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(response.Chain[0])
}

const nonceSize = 16 // as openssl asks

// withNonce puts a nonce into a request that has none, and stays so short that
// all its lengths are one byte.
func withNonce(request []byte) []byte {
	value := append([]byte{4, nonceSize}, make([]byte, nonceSize)...)
	extension := append([]byte("\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x02\x04"), byte(len(value)))
	extension = append(extension, value...)
	for _, tag := range []byte{0x30, 0x30, 0xa2} {
		extension = append([]byte{tag, byte(len(extension))}, extension...)
	}
	asked := append(bytes.Clone(request), extension...)
	asked[1] += byte(len(extension))
	asked[3] += byte(len(extension))
	return asked
}

// cpuEach is how much of the processors one call takes, in µs.
func cpuEach(work func() error) (float64, error) {
	before := measure.OwnCPU()
	for range ocspRequests {
		if err := work(); err != nil {
			return 0, err
		}
	}
	return float64((measure.OwnCPU() - before).Nanoseconds()) / 1e3 / ocspRequests, nil
}

// asking returns a func that has a handler answer one request. What net/http does
// before that is not in it.
func asking(ctx context.Context, handler http.Handler, method, address string, body []byte) (func() error, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/ocsp-request")
	return func() error {
		one, answer := *request, answered{header: http.Header{}}
		one.Body, one.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		handler.ServeHTTP(&answer, &one)
		if answer.size < 200 {
			return fmt.Errorf("%s %s: an answer of %d bytes", method, address, answer.size)
		}
		return nil
	}, nil
}

// answered is where a handler writes to.
type answered struct {
	header http.Header
	size   int
}

func (a *answered) Header() http.Header { return a.header }
func (a *answered) WriteHeader(int)     {}

func (a *answered) Write(p []byte) (int, error) {
	a.size += len(p)
	return len(p), nil
}

// newSigned returns a func that signs and encodes one answer, and does nothing
// else.
func newSigned() (func() error, error) {
	now := time.Now()
	td := spiffeid.RequireTrustDomainFromString("bench.example")
	root, rootKey, err := ca.CreateRoot(now, ca.RootOrder{TrustDomain: td, Name: "root", Algorithm: pki.ECDSAP256, Lifetime: 1000 * time.Hour})
	if err != nil {
		return nil, err
	}
	const publicURL = "http://bench.example"
	cert, key, err := ca.CreateIssuing(now, root, rootKey, ca.IssuingOrder{ParentID: "root", TrustDomain: td, Name: "issuing", Algorithm: pki.ECDSAP256, Lifetime: 500 * time.Hour}, publicURL)
	if err != nil {
		return nil, err
	}
	authority, err := ca.NewAuthority("issuing", cert, []*x509.Certificate{cert}, key, publicURL)
	if err != nil {
		return nil, err
	}
	responder, id, err := newResponder(now, authority)
	if err != nil {
		return nil, err
	}
	nonce, singles := make([]byte, nonceSize), []ocsp.Single{{ID: id, Status: ocsp.Good, This: now, Next: now.Add(time.Hour)}}
	return func() error {
		_, err := responder.Sign(now, singles, nonce)
		return err
	}, nil
}

func newResponder(now time.Time, authority *ca.Authority) (*ocsp.Responder, ocsp.CertID, error) {
	var id ocsp.CertID
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		return nil, id, err
	}
	prepared, err := authority.PrepareResponder(now, key.Public(), pki.Names{CommonName: "OCSP responder"}, time.Hour, time.Minute)
	if err != nil {
		return nil, id, err
	}
	issued, err := authority.Issue(prepared)
	if err != nil {
		return nil, id, err
	}
	cert, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		return nil, id, err
	}
	issuer, err := ocsp.NewIssuer(authority.Certificate)
	if err != nil {
		return nil, id, err
	}
	if id, err = issuer.CertID(issued.Serial); err != nil {
		return nil, id, err
	}
	responder, err := ocsp.NewResponder(authority.Certificate, cert, key)
	return responder, id, err
}
