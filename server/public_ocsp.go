package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/ocsp"
)

const (
	ocspPrefix = "/ocsp/"
	ocspWithin = 5 * time.Second // to answer one request

	// ocspMaxAge is how long a cache may keep an answer without asking whether
	// there is a newer one: so long a revocation may go unnoticed behind it.
	ocspMaxAge = 5 * time.Minute
)

// OCSPHandler answers who asks for the status of certificates: POST
// /ocsp/AUTHORITY, and GET /ocsp/AUTHORITY/BASE64 for caches (RFC 6960, appendix
// A; RFC 5019). What can't be answered has an OCSP answer that says so. A
// connection has one request at a time, and headerTimeout to send it.
func OCSPHandler(c *control.Control) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authority, path, inPath := strings.Cut(strings.TrimPrefix(r.URL.Path, ocspPrefix), "/")
		var request []byte
		switch {
		case r.Method == http.MethodPost && !inPath:
			if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/ocsp-request") {
				http.Error(w, "the content type of a request must be application/ocsp-request", http.StatusUnsupportedMediaType)
				return
			}
			request = readRequest(w, r)
		case (r.Method == http.MethodGet || r.Method == http.MethodHead) && inPath:
			request, _ = base64.StdEncoding.Strict().DecodeString(path) // none where it is broken
		default:
			w.Header().Set("Allow", map[bool]string{true: "GET, HEAD", false: "POST"}[inPath])
			http.Error(w, "a request is posted to "+ocspPrefix+"AUTHORITY, or got from "+ocspPrefix+"AUTHORITY/BASE64", http.StatusMethodNotAllowed)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), ocspWithin)
		defer cancel()
		writeAnswer(w, r, c.OCSP(ctx, authority, request))
	})
}

// readRequest reads no more than a request may have; nil when there is more, or
// less than was promised.
func readRequest(w http.ResponseWriter, r *http.Request) []byte {
	if r.ContentLength > ocsp.MaxRequest {
		w.Header().Set("Connection", "close") // the rest is not read
		return nil
	}
	request := bytes.NewBuffer(make([]byte, 0, max(0, r.ContentLength)+bytes.MinRead))
	if _, err := request.ReadFrom(http.MaxBytesReader(w, r.Body, ocsp.MaxRequest)); err != nil {
		return nil
	}
	return request.Bytes()
}

func writeAnswer(w http.ResponseWriter, r *http.Request, answer control.OCSPAnswer) {
	header := w.Header()
	header.Set("Content-Type", "application/ocsp-response")
	if answer.Digest == "" {
		header.Set("Cache-Control", "no-store")
		w.Write(answer.DER)
		return
	}
	age := min(ocspMaxAge, answer.Fresh)
	header.Set("ETag", `"`+answer.Digest+`"`)
	header.Set("Last-Modified", answer.This.Format(http.TimeFormat))
	header.Set("Expires", answer.Now.Add(age).Format(http.TimeFormat))
	header.Set("Cache-Control", cacheFor(age)+", no-transform, must-revalidate")
	if r.Method != http.MethodPost && asked(r, answer.Digest) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Write(answer.DER)
}
