package target

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// maxHealth is far above what a health page says.
const maxHealth = 16 << 10

// Health says whether a target is well enough for the next member of its
// cluster to take its turn: that it answers a handshake, and what its kind
// asks for beyond that (replication in sync, a leader). spec says how to shake
// hands, with the client certificate that the server demands where there is
// one.
func (a Adapter) Health(ctx context.Context, host Host, t Target, spec probe.Spec) error {
	if spec.Address != "" {
		seen, err := probe.Handshake(ctx, spec)
		if err != nil {
			return err
		}
		if seen.Outcome != probe.Served {
			return fault.New(fault.Unavailable, "%s at %s is not well: %s (%s)", a.Kind, spec.Address, seen.Error, seen.Outcome)
		}
	}
	if a.health == nil {
		return nil
	}
	if err := a.health(ctx, host, t, spec); err != nil {
		return fault.Wrap(fault.Unavailable, err, "%s %s is not well", a.Kind, t.Name)
	}
	return nil
}

// pages reads pages of a target over TLS, all on one connection. None carries
// a secret or decides anything about trust, which the proof does; so a bundle
// is verified where there is one, by the same rules as in a proof.
type pages struct {
	client http.Client
	base   string
}

// plainPages is pages over a control path that speaks in the plain.
func plainPages(control *Control) *pages {
	return &pages{base: "http://" + control.Address, client: http.Client{
		Timeout:       plainTimeout,
		Transport:     &http.Transport{ResponseHeaderTimeout: plainTimeout},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// pagesOf is for one look at the target. The caller closes it.
func pagesOf(spec probe.Spec) *pages {
	config := &tls.Config{ServerName: spec.ServerName, InsecureSkipVerify: true}
	if !spec.Roots.Empty() && spec.ServerName != "" {
		config.InsecureSkipVerify, config.RootCAs, config.Time = false, spec.Roots.Pool(), spec.Now
	}
	if spec.Certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return spec.Certificate, nil }
	}
	timeout := spec.Timeout
	if timeout <= 0 {
		timeout = probe.DefaultTimeout
	}
	return &pages{base: "https://" + spec.Address, client: http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{TLSClientConfig: config, ResponseHeaderTimeout: timeout, TLSHandshakeTimeout: timeout},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (p *pages) close() { p.client.CloseIdleConnections() }

// read lets a page be read, by POST where there is something to ask, up to a
// limit.
func (p *pages) read(ctx context.Context, page, ask string, limit int64, read func(status int, body io.Reader) error) error {
	method, question := http.MethodGet, io.Reader(http.NoBody)
	if ask != "" {
		method, question = http.MethodPost, strings.NewReader(ask)
	}
	request, err := http.NewRequestWithContext(ctx, method, p.base+page, question)
	if err != nil {
		return err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	body := io.LimitReader(response.Body, limit)
	err = read(response.StatusCode, body)
	_, _ = io.Copy(io.Discard, body) // what is left, so that the connection can be used again
	return errors.Join(err, response.Body.Close())
}

// readHealth reads etcd's answer: {"health":"true","reason":""}, where old
// versions write a boolean.
func readHealth(status int, body io.Reader) error {
	var page struct {
		Health any    `json:"health"`
		Reason string `json:"reason"`
	}
	decodeErr := json.NewDecoder(body).Decode(&page)
	if status != http.StatusOK {
		return fmt.Errorf("its health page answers %d %.300s", status, page.Reason)
	}
	if decodeErr != nil {
		return fmt.Errorf("its health page is not JSON: %w", decodeErr)
	}
	if page.Health != "true" && page.Health != true {
		return fmt.Errorf("its health page says %v: %.300s", page.Health, page.Reason)
	}
	return nil
}
