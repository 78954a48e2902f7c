package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/target"
)

// Canaries are used for half of their life at most, asked for with little
// patience, and not asked for again at once where there were none: a proof
// does not wait for the control plane.
const (
	canaryFor     = 5 * time.Minute
	canaryTimeout = 4 * time.Second
	canaryAgain   = 30 * time.Second
)

// canary is a client certificate by which a server's trust is tried. It and its
// key stand in memory only.
type canary struct {
	certificate tls.Certificate
	anchor      string // fingerprint
	authority   string
}

// canaries are those of one placement, or why there are none. They are for one
// bundle: another one may have an anchor of which the control plane knew nothing
// when these were signed.
type canaries struct {
	list   []canary
	err    error
	bundle pki.BundleDigest
	since  time.Duration // by the executor's own clock
	known  bool
}

// tries says whether the target is one whose trust in clients is tried.
func (w *wish) tries() bool {
	asks := w.proof.clientAuth == probe.ClientAuthRequired || w.proof.clientAuth == probe.ClientAuthOptional
	return asks && w.proof.level == api.Level_LEVEL_PROVEN && slices.Contains(w.usages, x509.ExtKeyUsageServerAuth)
}

// fetchCanaries sees to it that there are canaries for the bundle, or a reason
// why not.
func (p *placement) fetchCanaries(ctx context.Context, w *wish, bundle pki.BundleDigest) {
	if !w.tries() {
		return
	}
	age, holds := p.e.elapsed()-p.canaries.since, canaryFor
	if p.canaries.err != nil {
		holds = canaryAgain
	}
	if p.canaries.known && p.canaries.bundle == bundle && age < holds {
		return
	}
	list, err := p.e.canaries(ctx, p.id, false)
	if bridge := w.desired.Bridge; err == nil && !bridge.IsZero() && carriesBridge(list, bridge) {
		list, err = nil, fault.New(fault.Invalid, "a canary carries the bridge %s: whether it is accepted says nothing of its own root", bridge)
	}
	if ctx.Err() == nil {
		p.canaries = canaries{list: list, err: err, bundle: bundle, since: p.e.elapsed(), known: true}
	}
}

// carriesBridge says whether a canary's chain leads on to another root.
func carriesBridge(list []canary, bridge pki.Fingerprint) bool {
	return slices.ContainsFunc(list, func(c canary) bool {
		return slices.ContainsFunc(c.certificate.Certificate, func(der []byte) bool { return pki.FingerprintOf(der) == bridge })
	})
}

// canaries makes a key and asks for a certificate under each authority.
func (e *Executor) canaries(ctx context.Context, placement string, revoked bool) ([]canary, error) {
	if e.Canaries == nil {
		return nil, fault.New(fault.Unavailable, "no control plane signs any")
	}
	ctx, cancel := context.WithTimeout(ctx, canaryTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return nil, err
	}
	signed, err := e.Canaries(ctx, placement, csr, revoked)
	if err != nil {
		return nil, err
	}
	var list []canary
	for _, s := range signed {
		chain, err := pki.ParseChainDER(s.GetChain())
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "canary under authority %s", s.GetAuthority())
		}
		if !pki.KeyMatches(key, chain.Leaf) {
			return nil, fault.New(fault.Invalid, "canary under authority %s is for another key", s.GetAuthority())
		}
		list = append(list, canary{
			certificate: tls.Certificate{Certificate: chain.DER(), PrivateKey: key, Leaf: chain.Leaf},
			anchor:      s.GetAnchor(), authority: s.GetAuthority(),
		})
	}
	if len(list) == 0 {
		return nil, fault.New(fault.Unavailable, "no authority can sign one now")
	}
	return list, nil
}

// trials says by which client certificates the process's trust is tried, with
// the bundle that it should have, and whether it has to accept its own.
//
// An anchor that is in one of two bundles only, where it is not known which of
// them the process has taken, decides nothing and is left out.
func (p *placement) trials(ctx context.Context, w *wish, v rotation.Revision, c *credential, b pki.Bundle) (trials []probe.Trial, own bool, err error) {
	if !w.tries() {
		return nil, false, nil
	}
	p.fetchCanaries(ctx, w, b.Digest())
	p.fetchRevoked(ctx, w, v)
	loaded := b
	if p.record.Trusts != b.Digest() && !trustsLive(w.adapter) {
		if loaded, err = p.drawer.bundle(p.record.Trusts); err != nil {
			return nil, false, fault.New(fault.Unavailable, "it is not known which bundle the process started with")
		}
	}
	own = slices.Contains(w.usages, x509.ExtKeyUsageClientAuth)
	for _, one := range []pki.Bundle{b, loaded} {
		own = own && c.chain.Verify(one, x509.ExtKeyUsageClientAuth, p.e.Now()) == nil
	}
	good := own
	for _, c := range p.canaries.list {
		accept := holds(b, c.anchor)
		if accept != holds(loaded, c.anchor) {
			continue
		}
		good = good || accept
		trials = append(trials, probe.Trial{Name: trialName(c.authority), Certificate: &c.certificate, Accept: accept, Anchor: c.anchor})
	}
	if !good {
		return nil, false, p.canaries.err // refusals alone show nothing
	}
	stranger, err := strangerClient(p.e.Now())
	if err != nil {
		return nil, false, err
	}
	trials = append(trials, p.revokedTrials(w, v, trials)...)
	return append(trials, probe.Trial{Name: "a throwaway root", Certificate: stranger, Anchor: probe.Stranger}), own, p.canaries.err
}

func holds(b pki.Bundle, anchor string) bool {
	return slices.ContainsFunc(b.Anchors(), func(cert *x509.Certificate) bool { return pki.FingerprintOf(cert.Raw).String() == anchor })
}

// strangerClient is a client certificate under a root that nobody knows.
func strangerClient(now time.Time) (*tls.Certificate, error) {
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), BasicConstraintsValid: true,
		}
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root, leaf := template(1, "throwaway root"), template(2, "throwaway client")
	root.IsCA, root.KeyUsage = true, x509.KeyUsageCertSign
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), rootKey)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for the trial: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// untried notes in an observation why canaries were not tried.
func untried(seen *probe.Observation, why error) {
	if why != nil {
		seen.Trials = append(seen.Trials, probe.TrialResult{Name: "canaries", Expected: true, Error: "not tried: " + why.Error()})
	}
}

// says is the server's own word, or why there is none.
func (p *placement) says(ctx context.Context, w *wish) string {
	t, err := p.reach(w)
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, patience(t))
	defer cancel()
	word, err := w.adapter.Says(ctx, p.e.Host.targetHost(), t)
	if err != nil {
		return clip("its own word could not be had: error: " + err.Error())
	}
	return clip(word)
}

// taken is the bundle that a process is known to trust by, after a load.
func (p *placement) taken(w *wish, v rotation.Revision, change target.Change, acts []target.Act, pending string) pki.BundleDigest {
	restarted := slices.ContainsFunc(acts, func(a target.Act) bool { return a.Kind == target.ActRestart })
	if change.First || restarted || (pending == "" && trustsLive(w.adapter)) {
		return v.Bundle
	}
	return p.record.Trusts
}

// trustsLive says whether a kind of server takes an anchor, and loses one,
// without a restart.
func trustsLive(a target.Adapter) bool {
	return a.AnchorAdd.Live() && a.AnchorRemove.Live()
}
