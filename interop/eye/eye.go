package eye

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/rotunda-pki/rotunda/probe"
)

// patience bounds one look.
const patience = 5 * time.Second

// Eye is how to look at one server.
type Eye struct {
	Address  string
	Preamble probe.Preamble
	// Certificate is shown to servers that ask for one. nil: none is.
	Certificate func() *tls.Certificate
}

// Served is the chain that the server serves now, unverified: whether it is
// the right one is for the caller to say.
func (e Eye) Served(ctx context.Context) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var chain []*x509.Certificate
	config := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
		chain = state.PeerCertificates
		return nil
	}}
	if e.Certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return e.Certificate(), nil }
	}
	session, err := Dial(ctx, e.Address, e.Preamble, config)
	if err != nil {
		return chain, err
	}
	return chain, session.NetConn().Close()
}
