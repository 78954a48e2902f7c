package probe

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Handshake connects to a server, shakes hands once and says what it saw.
// The error is for a Spec that makes no sense or a ctx that was cancelled;
// whatever the network and the server do is in the Observation.
func Handshake(ctx context.Context, spec Spec) (Observation, error) {
	if err := spec.check(); err != nil {
		return Observation{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, spec.timeout())
	defer cancel()
	look := &look{spec: spec, seen: Observation{
		Time:       spec.Now().UTC().Truncate(time.Microsecond),
		Observer:   spec.Observer,
		Address:    spec.Address,
		ServerName: spec.ServerName,
		Preamble:   spec.Preamble,
	}}
	look.take(bounded)
	if errors.Is(ctx.Err(), context.Canceled) && look.seen.Outcome != Served {
		return Observation{}, fmt.Errorf("probe %s: %w", spec.Address, context.Cause(ctx))
	}
	return look.seen, nil
}

// look is one handshake in the making.
type look struct {
	spec Spec
	seen Observation

	asked atomic.Bool // the server demanded a client certificate
	raw   [][]byte    // its chain, as sent
}

func (l *look) take(ctx context.Context) {
	start := time.Now()
	l.seen.Stage = StageConnect
	var dialer net.Dialer
	tcp, err := dialer.DialContext(ctx, "tcp", l.spec.Address)
	if err != nil {
		l.fail(err, false)
		return
	}
	conn := &boundedConn{Conn: tcp, left: maxBytes}
	defer func() { _ = conn.Close() }() // nothing was promised to the server
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		l.fail(err, false)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	l.seen.Stage = StagePreamble
	way := dialects[l.spec.Preamble]
	var upgraded any
	if way.upgrade != nil {
		if upgraded, err = way.upgrade(conn); err != nil {
			l.fail(err, conn.heard())
			return
		}
	}

	l.seen.Stage = StageHandshake
	conn.mark()
	tickets := &ticketSink{conn: conn, session: l.spec.session}
	session := tls.Client(conn, l.config(tickets))
	err = session.HandshakeContext(ctx)
	l.seen.LatencyMicros = time.Since(start).Microseconds()
	l.record(session.ConnectionState())
	if err != nil {
		l.failHandshake(err, conn.heard())
		return
	}
	l.seen.Outcome = Served
	l.verify()
	l.afterwards(session, conn, tickets, way, upgraded)
}

func (l *look) config(tickets tls.ClientSessionCache) *tls.Config {
	minimum := l.spec.MinVersion
	if minimum == 0 {
		minimum = tls.VersionTLS10
	}
	var suites []uint16 // nil: as crypto/tls thinks best
	if l.spec.anySuite {
		suites = everySuite()
	}
	return &tls.Config{
		CipherSuites: suites,
		ServerName:   l.spec.ServerName,
		MinVersion:   minimum,
		MaxVersion:   l.spec.MaxVersion,
		Time:         l.spec.Now,
		// The chain is looked at after the handshake, so that a wrong one is
		// seen and described. That the server holds the leaf's key is
		// verified by the handshake all the same.
		InsecureSkipVerify:    true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error { l.raw = raw; return nil },
		GetClientCertificate:  l.clientCertificate,
		ClientSessionCache:    tickets,
	}
}

// clientCertificate answers the server's demand. In TLS 1.3 it is called
// after the server's Finished and in TLS 1.2 after its signed key exchange,
// so a call means that the server has shown to hold the leaf's key.
func (l *look) clientCertificate(demand *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	l.asked.Store(true)
	l.seen.ClientAuth = true
	l.seen.Authorities = subjects(demand.AcceptableCAs)
	if l.spec.Certificate == nil || len(l.spec.Certificate.Certificate) == 0 {
		return &tls.Certificate{}, nil
	}
	l.seen.Sent = hexOf(l.spec.Certificate.Certificate[0])
	return l.spec.Certificate, nil
}

// record notes what the handshake has negotiated, even where it failed later.
func (l *look) record(state tls.ConnectionState) {
	if state.Version != 0 {
		l.seen.Protocol = tls.VersionName(state.Version)
	}
	if state.CipherSuite != 0 {
		l.seen.Cipher = tls.CipherSuiteName(state.CipherSuite)
	}
	if state.CurveID != 0 {
		l.seen.Group = state.CurveID.String()
	}
	l.seen.Resumed = state.DidResume
	if len(state.PeerCertificates) == 0 {
		return
	}
	for _, raw := range l.raw[:min(len(l.raw), MaxChain)] {
		l.seen.Chain = append(l.seen.Chain, hexOf(raw))
	}
	l.seen.Certificates = state.PeerCertificates[:min(len(state.PeerCertificates), MaxChain)]
	leaf := state.PeerCertificates[0]
	spki := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	l.seen.Leaf = &Leaf{
		Serial:      serialOf(leaf),
		Fingerprint: hexOf(leaf.Raw),
		SPKI:        hex.EncodeToString(spki[:]),
		NotBefore:   leaf.NotBefore.UTC(),
		NotAfter:    leaf.NotAfter.UTC(),
	}
}

// verify says whether the served chain is trusted for the name.
func (l *look) verify() {
	if l.spec.Roots.Empty() {
		return
	}
	l.seen.Trust = Trusted
	if err := verifyChain(l.raw, l.seen.Certificates, l.spec); err != nil {
		l.seen.Trust = clip(err.Error())
	}
}

func verifyChain(raw [][]byte, certificates []*x509.Certificate, spec Spec) error {
	if len(raw) > MaxChain {
		return fmt.Errorf("the chain has %d certificates, more than any server needs", len(raw))
	}
	chain := pki.Chain{Leaf: certificates[0], Intermediates: certificates[1:]}
	if err := chain.Verify(spec.Roots, x509.ExtKeyUsageServerAuth, spec.Now()); err != nil {
		return err
	}
	if spec.ServerName == "" {
		return nil
	}
	return chain.Leaf.VerifyHostname(spec.ServerName)
}

func hexOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func serialOf(certificate *x509.Certificate) string {
	if certificate.SerialNumber == nil {
		return ""
	}
	return hex.EncodeToString(certificate.SerialNumber.Bytes())
}
