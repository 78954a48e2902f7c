package target

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// maxHealth is far above what a health page says.
const maxHealth = 16 << 10

// Health says whether a target is well, as deep as its kind allows: etcd
// answers /health from a linearizable read, so only a member that has a
// leader is. It needs the client certificate that the server demands; where
// that is nil, and for kinds without a health page, an answered handshake is
// all that is asked for.
func (a Adapter) Health(ctx context.Context, spec probe.Spec) error {
	seen, err := probe.Handshake(ctx, spec)
	if err != nil {
		return err
	}
	if seen.Outcome != probe.Served {
		return fault.New(fault.Unavailable, "%s at %s is not well: %s (%s)", a.Kind, spec.Address, seen.Error, seen.Outcome)
	}
	if a.health == "" || (seen.ClientAuth && spec.Certificate == nil) {
		return nil
	}
	if err := a.askHealth(ctx, spec); err != nil {
		return fault.Wrap(fault.Unavailable, err, "%s at %s is not well", a.Kind, spec.Address)
	}
	return nil
}

// askHealth reads the health page. It carries no secret and decides nothing
// about trust, which the proof does; so a bundle is verified where there is
// one, by the same rules as in a proof.
func (a Adapter) askHealth(ctx context.Context, spec probe.Spec) error {
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
	client := http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ResponseHeaderTimeout: timeout, TLSHandshakeTimeout: timeout},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+spec.Address+a.health, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // only read from
	return readHealth(response.StatusCode, io.LimitReader(response.Body, maxHealth))
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
