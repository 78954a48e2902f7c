package server_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleettest"
)

// asker asks for the status of one agent's certificate.
type asker struct {
	t       *testing.T
	plane   *fleettest.Plane
	agent   string
	leaf    *x509.Certificate
	issuer  *x509.Certificate
	request []byte
}

func newAsker(t *testing.T) asker {
	t.Helper()
	p := fleettest.NewPlane(t)
	agent := newAgent(t, p, nil)
	leaf, err := x509.ParseCertificate(agent.cert.Certificate[0])
	must(t, err)
	a := asker{t: t, plane: p, agent: agent.id, leaf: leaf, issuer: p.IssuingNow().Certificate}
	a.request, err = ocsp.CreateRequest(leaf, a.issuer, &ocsp.RequestOptions{Hash: crypto.SHA1})
	must(t, err)
	return a
}

func (a asker) do(request *http.Request) (*http.Response, []byte) {
	a.t.Helper()
	response, err := http.DefaultTransport.RoundTrip(request) // a redirect is an answer too
	must(a.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(a.t, err)
	return response, body
}

func (a asker) get(path string, header ...string) (*http.Response, []byte) {
	a.t.Helper()
	request, err := http.NewRequest(http.MethodGet, a.leaf.OCSPServer[0]+"/"+path, nil)
	must(a.t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return a.do(request)
}

func (a asker) post(kind string, body io.Reader) (*http.Response, []byte) {
	a.t.Helper()
	request, err := http.NewRequest(http.MethodPost, a.leaf.OCSPServer[0], body)
	must(a.t, err)
	request.Header.Set("Content-Type", kind)
	return a.do(request)
}

func (a asker) retire() {
	a.t.Helper()
	_, err := a.plane.RetireAgent(a.t.Context(), fleettest.Operator, &api.RetireAgentRequest{AgentId: a.agent})
	must(a.t, err)
}

func (a asker) wantStatus(der []byte, want int) {
	a.t.Helper()
	response, err := ocsp.ParseResponseForCert(der, a.leaf, a.issuer)
	must(a.t, err)
	if response.Status != want {
		a.t.Errorf("status %d, want %d", response.Status, want)
	}
}

const ocspRequest = "application/ocsp-request"

// The address in a certificate answers to both ways of asking, in a way that
// caches can keep (RFC 5019), and never with what is no longer so.
func TestOCSPOverHTTP(t *testing.T) {
	a := newAsker(t)
	posted, body := a.post(ocspRequest, bytes.NewReader(a.request))
	a.wantStatus(body, ocsp.Good)
	path := url.PathEscape(base64.StdEncoding.EncodeToString(a.request))
	got, again := a.get(path)
	if !bytes.Equal(body, again) || posted.StatusCode != http.StatusOK || got.StatusCode != http.StatusOK {
		t.Errorf("POST %s and GET %s give different answers", posted.Status, got.Status)
	}
	header := got.Header
	if header.Get("Content-Type") != "application/ocsp-response" || !strings.HasPrefix(header.Get("Cache-Control"), "public, max-age=") ||
		!strings.HasSuffix(header.Get("Cache-Control"), ", no-transform, must-revalidate") {
		t.Errorf("headers %v", header)
	}
	for _, name := range []string{"Last-Modified", "Expires"} {
		at, err := http.ParseTime(header.Get(name))
		if off := time.Until(at).Abs(); err != nil || off > 10*time.Minute {
			t.Errorf("%s: %q, %v", name, header.Get(name), err)
		}
	}
	if same, body := a.get(path, "If-None-Match", header.Get("ETag")); same.StatusCode != http.StatusNotModified || len(body) > 0 {
		t.Errorf("asked again: %s", same.Status)
	}
	a.retire()
	changed, body := a.get(path, "If-None-Match", header.Get("ETag"))
	if a.wantStatus(body, ocsp.Revoked); changed.StatusCode != http.StatusOK {
		t.Errorf("after the revocation: %s", changed.Status)
	}
}

// Base64 has slashes, and some clients don't escape them.
func TestOCSPWithSlashesInItsPath(t *testing.T) {
	a := newAsker(t)
	// CertIDs of another issuer, whose hashes are all ones: slashes, and in a row.
	foreign := bytes.Clone(a.request)
	hash := bytes.Index(foreign, []byte{4, 20})
	for i := range 20 {
		foreign[hash+2+i], foreign[hash+24+i] = 0xff, 0xff
	}
	path := base64.StdEncoding.EncodeToString(foreign)
	if !strings.Contains(path, "//") {
		t.Fatalf("no slashes in %s", path)
	}
	for _, path := range []string{path, url.PathEscape(path)} {
		if got, body := a.get(path); got.StatusCode != http.StatusOK || !bytes.Equal(body, ocsp.UnauthorizedErrorResponse) {
			t.Errorf("%s: %x", got.Status, body)
		}
	}
}

func TestOCSPRequestsThatAreNone(t *testing.T) {
	a := newAsker(t)
	good := base64.StdEncoding.EncodeToString(a.request)
	for name, path := range map[string]string{
		"nothing": "", "no base64": "%25%25", "broken base64": good[:len(good)-1], "another alphabet": "__--", "no request": "AAAA",
		"with bits that mean nothing": "AB==", "a long one": strings.Repeat("A", 8<<10),
	} {
		if got, body := a.get(path); got.StatusCode != http.StatusOK || !bytes.Equal(body, ocsp.MalformedRequestErrorResponse) || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET, %s: %s %x", name, got.Status, body)
		}
	}
	endless := io.MultiReader(bytes.NewReader(a.request), bytes.NewReader(make([]byte, 1<<20)))
	for name, body := range map[string]io.Reader{
		"nothing": strings.NewReader(""), "text": strings.NewReader("GET / HTTP/1.1"), "a huge one": bytes.NewReader(make([]byte, 1<<20)), "a huge one of no length": endless,
	} {
		if got, body := a.post(ocspRequest, body); got.StatusCode != http.StatusOK || !bytes.Equal(body, ocsp.MalformedRequestErrorResponse) {
			t.Errorf("POST, %s: %s %x", name, got.Status, body)
		}
	}
	if got, _ := a.post("text/plain", bytes.NewReader(a.request)); got.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("another content type: %s", got.Status)
	}
	for method, path := range map[string]string{http.MethodGet: "", http.MethodPut: "", http.MethodDelete: "/" + good, http.MethodPost: "/" + good} {
		request, err := http.NewRequest(method, a.leaf.OCSPServer[0]+path, nil)
		must(t, err)
		if got, _ := a.do(request); got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") == "" {
			t.Errorf("%s: %s", method, got.Status)
		}
	}
}

// tool runs a program that asks by itself, and returns all that it says.
func (a asker) tool(name string, args ...string) string {
	a.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		a.t.Fatalf("%v: install it with scripts/deps", err)
	}
	output, err := exec.CommandContext(a.t.Context(), path, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		a.t.Fatal(err)
	}
	return string(output)
}

// The tools that operators have at hand ask and believe the answer.
func TestOCSPByOtherPeoplesTools(t *testing.T) {
	a := newAsker(t)
	dir := t.TempDir()
	write := func(name string, certs ...*x509.Certificate) string {
		var text []byte
		for _, cert := range certs {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
		}
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, text, 0o600))
		return path
	}
	leaf, issuer, roots := write("leaf.pem", a.leaf), write("issuer.pem", a.issuer), write("roots.pem", a.plane.FirstRoot)
	ask := []string{"ocsp", "-issuer", issuer, "-cert", leaf, "-url", a.leaf.OCSPServer[0], "-CAfile", roots}
	runs := []struct {
		name, tool string
		args       []string
		believed   []string
		good       string
		revoked    string
	}{
		{"openssl", "openssl", ask, []string{"Response verify OK"}, "leaf.pem: good", "leaf.pem: revoked"},
		{"openssl without a nonce", "openssl", append(ask, "-no_nonce"), []string{"Response verify OK"}, "leaf.pem: good", "leaf.pem: revoked"},
		{"openssl by SHA-256", "openssl", append([]string{"ocsp", "-sha256"}, ask[1:]...), []string{"Response verify OK"}, "leaf.pem: good", "leaf.pem: revoked"},
		{
			"gnutls", "ocsptool", []string{"--ask=" + a.leaf.OCSPServer[0], "--load-issuer", issuer, "--load-cert", leaf, "--load-trust", issuer},
			[]string{"Success"}, "Certificate Status: good", "Certificate Status: revoked",
		},
	}
	check := func(want func(i int) string) {
		for i, run := range runs {
			said := a.tool(run.tool, run.args...)
			for _, words := range append(run.believed, want(i)) {
				if !strings.Contains(said, words) {
					t.Errorf("%s does not say %q:\n%s", run.name, words, said)
				}
			}
			if strings.Contains(said, "WARNING") {
				t.Errorf("%s warns:\n%s", run.name, said)
			}
		}
	}
	check(func(i int) string { return runs[i].good })
	a.retire()
	check(func(i int) string { return runs[i].revoked })
}
