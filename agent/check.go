package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
)

// check looks at a staged revision before anything depends on it. What is wrong
// with the certificate itself spoils its generation; what is wrong around it,
// such as a relying party that does not know the issuer yet, may be mended.
func (p *placement) check(ctx context.Context, w *wish, s rotation.Step) error {
	v := *p.record.Revision(s.Revision)
	// Canaries are to be at hand when nothing may wait any more.
	var fetching sync.WaitGroup
	fetching.Go(func() {
		p.fetchCanaries(ctx, w, v.Bundle)
		p.fetchRevoked(ctx, w, v)
	})
	problem := p.examine(ctx, w, v, fetching.Wait)
	fetching.Wait()
	var seen found
	if problem == nil {
		seen, problem = p.lookAhead(ctx, w, v)
	}
	if ctx.Err() != nil {
		return nil
	}
	if problem == nil {
		p.ahead = seen
		return p.change(func(r *record) {
			r.Check(s.Revision)
			r.Meet(s.Revision, seen.away, seen.well)
		})
	}
	return p.objected(w, v, problem)
}

// objected records that a revision must not be switched to. What was merely not
// to be reached is no failure for the report, where it would hold every
// placement of the intent: the reason says it, and it is tried again soon.
func (p *placement) objected(w *wish, v rotation.Revision, problem error) error {
	own, spoiled := errors.AsType[*spoiledError](problem)
	if spoiled {
		problem = own.error
	}
	p.e.Log.Warn("step failed", "placement", p.id, "intent", w.intent, "action", string(rotation.Check), "revision", v.Number, "error", problem.Error())
	if misfit, ok := errors.AsType[*misfitError](problem); ok {
		return p.change(func(r *record) { r.Misfit(v.Number, misfit.Error(), w.desired, p.e.Now()) })
	}
	stands, now := p.record.Standing(), p.e.Now()
	transient := absent(problem)
	return p.change(func(r *record) {
		r.Fail(v.Number, rotation.Check, problem.Error(), transient, w.desired, now)
		if !transient {
			r.Failure = &failure{Step: rotation.Check, Reason: problem.Error(), Generation: v.Generation, At: now}
		}
		if spoiled && (stands == nil || stands.Generation != v.Generation) {
			r.Refuse(v.Generation, problem.Error())
		}
	})
}

// spoiledError is a fault of the certificate itself.
type spoiledError struct{ error }

// examine looks at the files. fetched returns when there are no canaries to wait
// for any more: lists are held against the authorities that they lead to.
func (p *placement) examine(ctx context.Context, w *wish, v rotation.Revision, fetched func()) error {
	b, err := p.bundle(ctx, v.Bundle)
	if err != nil {
		return err
	}
	peers, err := p.bundles(ctx, w.peers)
	if err != nil {
		return err
	}
	c, err := p.drawer.credential(v)
	if err != nil {
		return &spoiledError{err}
	}
	if !v.CRL.None() {
		fetched()
	}
	if err := p.examineLists(v, c, b); err != nil {
		return err
	}
	s, err := p.besides(w, v, c, b)
	if err != nil {
		return err
	}
	if err := p.readBack(w, v, c, b, s); err != nil {
		return err
	}
	if err := p.commandsExist(w); err != nil || c == nil {
		return err
	}
	now := p.e.Now()
	if err := asWished(w, c, now); err != nil {
		return err
	}
	for i, bundle := range append([]pki.Bundle{b}, peers...) {
		for _, usage := range w.usages {
			if err := c.chain.Verify(bundle, usage, now); err != nil {
				whose := "the bundle that is delivered with it"
				if i > 0 {
					whose = "a declared peer's bundle " + bundle.Digest().String()
				}
				return fault.Wrap(fault.Conflict, err, "the chain does not validate against %s", whose)
			}
		}
	}
	return handshakes(w, c, b, now)
}

// commandsExist says whether this host knows the commands that the target
// needs: to find out after the switch is too late.
func (p *placement) commandsExist(w *wish) error {
	for _, name := range []string{w.target.ReloadCommand, w.target.RestartCommand} {
		if name == "" {
			continue
		}
		if _, err := p.e.Host.Command(name); err != nil {
			return err
		}
	}
	return nil
}

// readBack reads every file of the revision from the disk and parses it.
func (p *placement) readBack(w *wish, v rotation.Revision, c *credential, b pki.Bundle, s besides) error {
	l, err := openLayout(p.e.Host, p.record.Directory, p.owner(), false)
	if err != nil {
		return err
	}
	if l == nil {
		return fault.New(fault.Conflict, "directory %s is gone", p.record.Directory)
	}
	defer l.close()
	if differs := l.differs(v.Number, p.record.Files[v.Number]); differs != "" {
		return fault.New(fault.Conflict, "%s between stage and check", differs)
	}
	password, err := p.password(w)
	if err != nil {
		return err
	}
	for _, fact := range p.record.Files[v.Number] {
		data, _, err := l.read(v.Number, fact.Name)
		if err != nil {
			return err
		}
		if err := readFile(fact.Name, data, c, b, s, password); err != nil {
			return fault.Wrap(fault.Conflict, err, "revision %d as read back from the disk", v.Number)
		}
	}
	return nil
}

// asWished holds the certificate against what is desired.
func asWished(w *wish, c *credential, now time.Time) error {
	leaf := c.chain.Leaf
	if !pki.KeyMatches(c.key, leaf) {
		return &spoiledError{fault.New(fault.Invalid, "the certificate is for another key")}
	}
	if !now.Before(leaf.NotAfter) {
		return &spoiledError{fault.New(fault.Invalid, "the certificate ran out at %s", leaf.NotAfter.UTC().Format(time.RFC3339))}
	}
	if now.Before(leaf.NotBefore) {
		return fault.New(fault.Unavailable, "the certificate is valid only from %s; by this host's clock it is %s",
			leaf.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)).WithRemedy("set this host's clock right")
	}
	if w.desired.Orphan || !w.desired.Identity {
		return nil // nothing is wished of it any more
	}
	if !pki.NamesOf(leaf).Equal(w.names) {
		return &spoiledError{fault.New(fault.Invalid, "the certificate is for %q, and the intent wants %q", pki.NamesOf(leaf).Strings(), w.names.Strings())}
	}
	if algorithm, err := pki.AlgorithmOf(leaf.PublicKey); err != nil || algorithm != w.algorithm {
		return &spoiledError{fault.New(fault.Invalid, "the certificate's key is %s, and the profile wants %s", algorithm, w.algorithm)}
	}
	for _, usage := range w.usages {
		if !slices.Contains(leaf.ExtKeyUsage, usage) {
			return &spoiledError{fault.New(fault.Invalid, "the certificate is not for %s, which the profile wants", usageTexts([]x509.ExtKeyUsage{usage}))}
		}
	}
	if len(leaf.ExtKeyUsage) != len(w.usages) {
		return &spoiledError{fault.New(fault.Invalid, "the certificate is for %s, and the profile wants %s", usageTexts(leaf.ExtKeyUsage), usageTexts(w.usages))}
	}
	return nil
}

// handshakes shakes hands in memory, in each role that the certificate is for.
func handshakes(w *wish, c *credential, b pki.Bundle, now time.Time) error {
	own := tls.Certificate{Certificate: c.chain.DER(), PrivateKey: c.key, Leaf: c.chain.Leaf}
	clock := func() time.Time { return now }
	for _, usage := range w.usages {
		var server, client *tls.Config
		switch usage {
		case x509.ExtKeyUsageServerAuth:
			server = &tls.Config{Certificates: []tls.Certificate{own}, Time: clock, MinVersion: w.proof.minVersion}
			client = &tls.Config{RootCAs: b.Pool(), Time: clock, MinVersion: w.proof.minVersion, ServerName: nameToAsk(c.chain.Leaf)}
			if client.ServerName == "" { // no name that TLS could ask for; Verify has held the chain
				client.InsecureSkipVerify = true
			}
		case x509.ExtKeyUsageClientAuth:
			other, err := throwaway(now)
			if err != nil {
				return err
			}
			server = &tls.Config{Certificates: []tls.Certificate{other}, ClientCAs: b.Pool(), ClientAuth: tls.RequireAndVerifyClientCert, Time: clock}
			client = &tls.Config{InsecureSkipVerify: true, Time: clock, MinVersion: w.proof.minVersion,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }}
		}
		if err := shake(server, client); err != nil {
			return &spoiledError{fault.Wrap(fault.Invalid, err, "a handshake in memory as %s failed", usageTexts([]x509.ExtKeyUsage{usage}))}
		}
	}
	return nil
}

// nameToAsk is a name of the certificate's that a client could ask for, or "".
func nameToAsk(leaf *x509.Certificate) string {
	if len(leaf.DNSNames) > 0 {
		return strings.Replace(leaf.DNSNames[0], "*.", "any.", 1)
	}
	if len(leaf.IPAddresses) > 0 {
		return leaf.IPAddresses[0].String()
	}
	return ""
}

// shake shakes hands over a pipe and passes one byte each way: in TLS 1.3 the
// server's word on the client comes only then.
func shake(server, client *tls.Config) error {
	near, far := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	answered := make(chan error, 1)
	go func() {
		defer far.Close()
		answered <- converse(tls.Server(far, server), deadline, true)
	}()
	err := converse(tls.Client(near, client), deadline, false)
	near.Close()
	if answer := <-answered; answer != nil && err == nil {
		err = answer
	}
	return err
}

func converse(conn *tls.Conn, deadline time.Time, first bool) error {
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		return err
	}
	one := []byte{1}
	say := func() error { _, err := conn.Write(one); return err }
	hear := func() error { _, err := conn.Read(one); return err }
	if first {
		return errors.Join(say(), hear())
	}
	return errors.Join(hear(), say())
}

// throwaway is a server certificate that nobody needs to trust.
func throwaway(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), DNSNames: []string{"check.invalid"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate for the check: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
