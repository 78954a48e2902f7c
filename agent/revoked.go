package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/target"
)

// That a process reads its CRLs is proven by a client certificate that was
// revoked on purpose, and is refused where a good one of the same authority is
// accepted. It lives as long as a CRL does and one stands for each authority,
// whatever placement it is tried at: with a new one for each proof, lists would
// have to chase them.

// A revoked canary is not used near its end, where it would be refused for that,
// and has a successor in good time for a list to hold it by then.
const (
	revokedUntil = 10 * time.Minute
	revokedAgain = time.Minute // after nobody signed one
)

// revokedCanaries are those of this agent, in memory.
type revokedCanaries struct {
	mu    sync.Mutex
	list  []canary
	tried time.Duration
	err   error
}

// triesCRL says whether the process is one whose reading of CRLs can be tried.
func (w *wish) triesCRL() bool { return w.tries() && w.adapter.CRL != target.Never }

// fetchRevoked sees to it that a revoked canary stands for each authority of
// which a good one is at hand.
func (p *placement) fetchRevoked(ctx context.Context, w *wish, v rotation.Revision) {
	if v.CRL.None() || !w.triesCRL() || p.e.Canaries == nil {
		return
	}
	r := &p.e.revoked
	r.mu.Lock()
	defer r.mu.Unlock()
	now := p.e.Now()
	r.list = slices.DeleteFunc(r.list, func(c canary) bool { return !now.Add(revokedUntil).Before(c.certificate.Leaf.NotAfter) })
	wanting := slices.ContainsFunc(p.canaries.list, func(c canary) bool { return !r.stands(c.authority, now) })
	if !wanting || r.err != nil && p.e.elapsed()-r.tried < revokedAgain {
		return
	}
	list, err := p.e.canaries(ctx, p.id, true)
	if ctx.Err() != nil {
		return
	}
	if r.tried, r.err = p.e.elapsed(), err; err != nil {
		p.e.Log.Warn("a revoked canary could not be had", "placement", p.id, "error", err.Error())
		return
	}
	for _, c := range list {
		if !r.stands(c.authority, now) {
			r.list = append(r.list, c)
		}
	}
}

// stands says whether there is one of the authority that is not in the last
// third of its life.
func (r *revokedCanaries) stands(authority string, now time.Time) bool {
	return slices.ContainsFunc(r.list, func(c canary) bool {
		leaf := c.certificate.Leaf
		return c.authority == authority && now.Before(leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore)/3))
	})
}

// revokedTrials are by those that stand on the CRLs of the revision, where a
// good one of the same authority is tried beside them. What the process takes at
// a restart only, it does not have yet.
func (p *placement) revokedTrials(w *wish, v rotation.Revision, trials []probe.Trial) []probe.Trial {
	if v.CRL.None() || !w.triesCRL() || p.record.Pending != "" {
		return nil
	}
	crls, err := p.drawer.crls(v.CRL.Digest)
	if err != nil {
		return nil
	}
	r := &p.e.revoked
	r.mu.Lock()
	defer r.mu.Unlock()
	var tried []probe.Trial
	for _, c := range r.list {
		good := slices.ContainsFunc(trials, func(t probe.Trial) bool { return t.Accept && t.Name == trialName(c.authority) })
		if good && crls.Revokes(c.certificate.Leaf) && p.e.Now().Add(revokedUntil).Before(c.certificate.Leaf.NotAfter) {
			certificate := c.certificate
			tried = append(tried, probe.Trial{Name: trialName(c.authority) + ", revoked", Certificate: &certificate, Revoked: true, Anchor: c.anchor})
		}
	}
	return tried
}

func trialName(authority string) string { return "authority " + authority }

// refusesRevoked says whether an observation shows that what is revoked is
// refused.
func refusesRevoked(seen *probe.Observation) bool {
	if seen == nil {
		return false
	}
	refused := false
	for _, trial := range seen.Trials {
		if trial.Revoked && trial.Accepted != probe.Rejected {
			return false
		}
		refused = refused || trial.Revoked
	}
	return refused
}

// servesRevoked is the fault of a process that has all that it should, and does
// not obey the CRLs.
type servesRevoked struct{ error }

func (e servesRevoked) Unwrap() error { return e.error }

func (p *placement) servedRevoked(reason string) error {
	return servesRevoked{fault.New(fault.Conflict, "%s", reason).
		WithRemedy("let its configuration name the CRLs of this revision, see rotunda targets; where it can't, use a profile with a short lifetime and without revocation.crl")}
}

// disobeyed notes that the process serves who was revoked. The revision stands: to
// go back to an older list would only take more revocations back. The rules load
// it once more, and look again.
func (p *placement) disobeyed(w *wish, v rotation.Revision, seen *evidence, problem error) error {
	now := p.e.Now()
	p.e.Log.Warn("the process does not obey its CRLs", "placement", p.id, "revision", v.Number, "error", problem.Error())
	return p.change(func(r *record) {
		if r.Proven = 0; seen != nil {
			r.Observed = seen
		}
		r.CRLLevel = min(r.CRLLevel, api.Level_LEVEL_DELIVERED)
		r.Fail(v.Number, rotation.Prove, problem.Error(), false, w.desired, now)
		r.Failure = &failure{Step: rotation.Prove, Reason: problem.Error(), Generation: v.Generation, At: now, Evidence: r.Observed.digest(), Lists: true}
	})
}

// warnOfLists writes to the host's own log what is wrong with the CRLs, once as
// long as it stays the same. They end where no server can be reached, and then
// no report can.
func (p *placement) warnOfLists(words string) {
	if words != "" && words != p.warned {
		p.e.Log.Warn("CRLs", "placement", p.id, "trouble", words)
	}
	p.warned = words
}

// reportLists says which CRLs and which staple are in use, and how they stand.
func (p *placement) reportLists(report *api.PlacementReport, f rotation.Facts, s rotation.Step) {
	if s.Action == rotation.Wait && s.Alarm {
		p.warnOfLists(s.Lists)
	}
	v := p.record.Revision(f.Current)
	for _, words := range []string{s.Lists, p.listed(v)} {
		if words != "" && s.Action == rotation.Wait {
			report.Reason += "; " + words
		}
	}
	if v != nil && !v.Staple.None() {
		report.StapleDigest = v.Staple.Digest.String()
	}
	if v == nil || v.CRL.None() {
		report.CrlAside = clip(s.Lists)
		return
	}
	report.CrlDigest, report.CrlLevel = v.CRL.Digest.String(), api.Level_LEVEL_DELIVERED
	if f.Loaded == v.Number {
		report.CrlLevel = max(report.CrlLevel, min(p.record.CRLLevel, api.Level_LEVEL_LOADED))
	}
	if f.Proven == v.Number {
		report.CrlLevel = max(report.CrlLevel, p.record.CRLLevel)
	}
}
