package agent

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// A bridge is the new root signed by the old one. It follows the issuing
// authority in the chain of what was issued under the new root, helps whoever
// knows the old root alone, and leaves the chain again without a new
// certificate. A certificate under the old root has no use for it.

// bridgeAgain is when a bridge that could not be had is looked for again.
const bridgeAgain = 30 * time.Second

// bridges is the bridge of one placement, in memory.
type bridges struct {
	digest pki.Fingerprint
	known  *x509.Certificate // nil: it could not be had
	tried  time.Duration     // by the executor's own clock
	leads  map[uint64]bool   // generations that were looked at: whether it is for them
}

// fetchBridge sees to it that the desired bridge is known before it is asked
// what it is for.
func (p *placement) fetchBridge(ctx context.Context, w *wish) {
	want := w.desired.Bridge
	if want.IsZero() || w.desired.Orphan {
		return
	}
	if have := &p.bridges; have.digest == want && (have.known != nil || p.e.elapsed()-have.tried < bridgeAgain) {
		return
	}
	bridge, err := p.findBridge(ctx, want)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		p.e.Log.Warn("bridge is not to be had", "placement", p.id, "bridge", want.String(), "error", err.Error())
		bridge = nil
	}
	p.bridges = bridges{digest: want, known: bridge, tried: p.e.elapsed(), leads: map[uint64]bool{}}
}

// findBridge finds a bridge: the placement's own copy, else the agent's.
func (p *placement) findBridge(ctx context.Context, digest pki.Fingerprint) (*x509.Certificate, error) {
	if bridge, err := p.drawer.bridge(digest); err == nil {
		return bridge, nil
	}
	if p.e.Bridge == nil {
		return nil, fault.New(fault.Unavailable, "bridge %s: there is nobody to ask for it", digest)
	}
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	bridge, err := p.e.Bridge(ctx, digest.String())
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.Unavailable, err, "find bridge %s", digest)
	case pki.FingerprintOf(bridge.Raw) != digest:
		return nil, fault.New(fault.Unavailable, "bridge %s: another certificate came", digest)
	}
	return bridge, nil
}

// saveBridge keeps a bridge that a revision is to hold.
func (p *placement) saveBridge(digest pki.Fingerprint) error {
	switch have := &p.bridges; {
	case digest.IsZero():
		return nil
	case have.digest != digest || have.known == nil:
		return fault.New(fault.Unavailable, "bridge %s is not to be had", digest)
	default:
		return p.drawer.saveBridge(have.known)
	}
}

// apart lists the generations that are known to be under another root than the
// desired bridge is for. While the bridge is not known, nothing is.
func (p *placement) apart(w *wish) []uint64 {
	b := &p.bridges
	if w.desired.Bridge.IsZero() || b.known == nil || b.digest != w.desired.Bridge {
		return nil
	}
	var apart []uint64
	for _, g := range p.record.Generations {
		if leads, looked := p.leads(g.Number); looked && !leads {
			apart = append(apart, g.Number)
		}
	}
	return apart
}

// leads says whether the bridge is for a generation, where that can be seen.
func (p *placement) leads(generation uint64) (leads, looked bool) {
	if leads, looked = p.bridges.leads[generation]; looked {
		return leads, true
	}
	chain, err := p.drawer.chain(generation)
	if err != nil {
		return false, false // not issued yet
	}
	leads = chain.LeadsTo(p.bridges.known)
	p.bridges.leads[generation] = leads
	return leads, true
}
