package control

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/target"
)

// seat is one placement of an intent, as far as its target is looked at. There may
// be a million.
type seat struct {
	agent, host string           // id, and what it calls itself
	target      string           // its name
	kind        fleet.TargetKind // as agent.yaml has it; empty: it names no control path
}

// targetSeat keeps nothing of the facts but what it needs: they are parts of one
// text, which is kept with any of them.
func targetSeat(agent store.Agent, target string) seat {
	kind := strings.Clone(string(reachable(agent)[target]))
	return seat{agent.ID, strings.Clone(agent.Facts["hostname"]), target, fleet.TargetKind(kind)}
}

// targetReview is one intent beside the row of its kind in the table of what
// kinds of servers can do.
type targetReview struct {
	target.Capabilities
	document fleet.Document
	intent   *fleet.Intent
	profile  *fleet.Profile // nil: a bundle only
	seats    []seat         // on the agents that it selects
	rekeyed  bool           // the documents change the key's algorithm
}

func (t targetReview) finding(severity fleet.Severity, path, rule, message, remedy string) fleet.Finding {
	return t.document.Finding(severity, path, rule, message, remedy)
}

// reviewTargets says of each intent that the files are about what its kind of
// server can't do, and what is done instead. What there is a remedy for is a
// finding; what is just so stands with the effects of the change.
func (r *review) reviewTargets(seats map[fleet.Name][]seat) {
	for _, name := range r.after.intents {
		t, ok := r.targetOf(name, seats[name])
		if !ok {
			continue
		}
		for _, look := range []func(targetReview) []fleet.Finding{
			targetReview.reviewControl, targetReview.reviewRestart, targetReview.reviewCluster, targetReview.reviewCRL, targetReview.reviewStaple, targetReview.reviewKeyType,
		} {
			r.findings = append(r.findings, look(t)...)
		}
		r.note(t)
	}
}

// targetOf is an intent that the files hold, or whose profile they hold.
func (r *review) targetOf(name fleet.Name, seats []seat) (targetReview, bool) {
	slices.SortFunc(seats, func(a, b seat) int {
		return cmp.Or(cmp.Compare(a.agent, b.agent), cmp.Compare(a.target, b.target))
	})
	in, _ := r.after.set.Intent(name)
	t := targetReview{document: r.after.set[fleet.Key{Kind: fleet.KindIntent, Name: name}], intent: in, seats: seats}
	var known bool
	if t.Capabilities, known = adapterOf(in.Target.Kind); !known {
		return t, false
	}
	about := t.document.Source.File != ""
	if in.Identity != nil {
		t.profile, _ = r.after.set.Profile(in.Profile)
		about = about || r.after.set[fleet.Key{Kind: fleet.KindProfile, Name: in.Profile}].Source.File != ""
		if was, ok := r.profileBefore(name); ok && t.profile != nil {
			t.rekeyed = was.Algorithm != t.profile.Algorithm
		}
	}
	return t, about
}

// profileBefore is the profile that an intent has had.
func (r *review) profileBefore(name fleet.Name) (*fleet.Profile, bool) {
	in, ok := r.before.set.Intent(name)
	if !ok || in.Identity == nil {
		return nil, false
	}
	return r.before.set.Profile(in.Profile)
}

// restartsFor lists what it takes at its start only, and can be asked to take.
// Another key type is looked at where one comes.
func (t targetReview) restartsFor() []string {
	return slices.DeleteFunc(t.NeedsRestart(), func(part string) bool {
		switch part {
		case "key type", "staple":
			return true
		case "CRL":
			return t.profile == nil || !t.profile.Revocation.CRL
		}
		return false
	})
}

func (t targetReview) reviewRestart() []fleet.Finding {
	parts := t.restartsFor()
	if len(parts) == 0 || t.intent.Target.RestartCommand != "" {
		return nil
	}
	return []fleet.Finding{t.finding(fleet.Warning, "spec.target.restartCommand", "needs-restart",
		fmt.Sprintf("%s takes this at its start only: %s. Without a restartCommand it is delivered, and waits for the next restart", t.Title, strings.Join(parts, ", ")),
		fmt.Sprintf("name a command of agent.yaml that restarts it: restartCommand: restart-%s", t.Kind))}
}

// reviewCluster finds members that nobody keeps apart. Of etcd the documents
// alone have said so.
func (t targetReview) reviewCluster() []fleet.Finding {
	hosts := map[string]bool{}
	for _, s := range t.seats {
		hosts[s.agent] = true
	}
	if t.intent.Target.Cluster != "" || t.Kind == fleet.TargetEtcd || len(hosts) < 2 || t.intent.Target.RestartCommand == "" || len(t.NeedsRestart()) == 0 {
		return nil
	}
	return []fleet.Finding{t.finding(fleet.Warning, "spec.target.cluster", "cluster",
		fmt.Sprintf("without target.cluster %s may be restarted at the same time on %d agents", t.Title, len(hosts)),
		"name the cluster: its members then go one after the other")}
}

func (t targetReview) reviewCRL() []fleet.Finding {
	if t.profile == nil {
		return nil
	}
	return t.misfit("crl", readsNoCRL(t.Capabilities, t.intent.Profile, t.profile))
}

func (t targetReview) reviewStaple() []fleet.Finding {
	if t.profile == nil || !t.profile.Revocation.Staple || t.Staple != target.Never {
		return nil
	}
	return t.misfit("staple", misfit{
		fmt.Sprintf("profile %s asks for stapled OCSP responses, and %s staples none: its clients do not learn that its certificate was revoked", t.intent.Profile, t.Title),
		"use a profile with a short lifetime and without revocation.staple; after a compromise replace the authority and withdraw its root",
	})
}

func (t targetReview) reviewKeyType() []fleet.Finding {
	if !t.rekeyed {
		return nil
	}
	return t.misfit("key-type", takesNoKeyType(t.Capabilities, t.intent, t.intent.Profile))
}

func (t targetReview) misfit(rule string, m misfit) []fleet.Finding {
	if m.text == "" {
		return nil
	}
	return []fleet.Finding{t.finding(fleet.Warning, "spec.profile", rule, m.text, m.remedy)}
}

// misfit is what a kind of server can't do with a profile; without text: there
// is nothing.
type misfit struct{ text, remedy string }

func readsNoCRL(can target.Capabilities, name fleet.Name, profile *fleet.Profile) misfit {
	switch {
	case !profile.Revocation.CRL:
		return misfit{}
	case can.CRL != target.Never && profile.Revocation.OnStale == fleet.StaleOpen && !can.SetsCRLAside():
		return misfit{
			fmt.Sprintf("profile %s says that CRLs are taken away before they end, and of %s the agent can't: it names them in a configuration that is not the agent's, and without them it refuses everybody. They stay, as with closed", name, can.Title),
			"say onStale: closed, and see that lists never end; or use a profile with a short lifetime and without revocation.crl",
		}
	case can.CRL != target.Never:
		return misfit{}
	}
	return misfit{
		fmt.Sprintf("profile %s asks for CRLs, and %s never reads any: a revoked client is served until its certificate ends", name, can.Title),
		"use a profile with a short lifetime and without revocation.crl",
	}
}

// takesNoKeyType is about a profile with another algorithm than before.
func takesNoKeyType(can target.Capabilities, in *fleet.Intent, name fleet.Name) misfit {
	if can.KeyType != target.AtRestart || in.Target.RestartCommand != "" {
		return misfit{}
	}
	return misfit{
		fmt.Sprintf("profile %s has another algorithm, and %s takes a key of another type at its start only: what is renewed is not served, and is put back", name, can.Title),
		fmt.Sprintf("keep the algorithm, or name a command of agent.yaml that restarts it: restartCommand: restart-%s", can.Kind),
	}
}

// note puts what is just so beside the change that brings it: the intent's
// own, else its profile's.
func (r *review) note(t targetReview) {
	keys := []fleet.Key{{Kind: fleet.KindIntent, Name: t.document.Name}, {Kind: fleet.KindProfile, Name: t.intent.Profile}}
	for _, key := range keys {
		for i := range r.changes {
			one := &r.changes[i]
			if one.key != key || one.op != api.Difference_CREATE && one.op != api.Difference_UPDATE {
				continue
			}
			words := t.words()
			if key.Kind == fleet.KindProfile {
				words = t.restartWords()
			}
			for _, text := range words {
				one.effects = append(one.effects, fmt.Sprintf("intent %s: %s", t.document.Name, text))
			}
			return
		}
	}
}

// words say what happens at this target that does not happen at every one.
func (t targetReview) words() []string {
	words := t.restartWords()
	if t.ClosesConnections == target.Yes {
		words = append(words, fmt.Sprintf("%s may end open connections when it reloads: clients must connect again, and repeat what may be repeated", t.Title))
	}
	if t.Validates == target.No {
		words = append(words, fmt.Sprintf("%s does not look at what it loads (a pair that does not fit: %s); Rotunda checks each before it switches", t.Title, t.BrokenPair))
	}
	return append(words, t.trustWords()...)
}

func (t targetReview) restartWords() []string {
	parts := t.restartsFor()
	if t.rekeyed && t.KeyType == target.AtRestart {
		parts = append(parts, "another key type, as now")
	}
	command := t.intent.Target.RestartCommand
	if len(parts) == 0 || command == "" {
		return nil
	}
	manner := "at once: it is in no cluster"
	if t.intent.Target.Cluster != "" {
		manner = "member by member"
	}
	return []string{fmt.Sprintf("these changes restart %s by %s, %s: %s", t.Title, command, manner, strings.Join(parts, ", "))}
}

// trustWords say how far the proof shows whom the server trusts.
func (t targetReview) trustWords() []string {
	in := t.intent.Target
	if in.Address == "" || t.profile == nil || !slices.Contains(t.profile.Usages, fleet.ServerAuth) {
		return nil
	}
	switch in.ClientAuth {
	case "":
		return []string{"clientAuth is not said: rotations do not try which clients it trusts"}
	case "none":
		return []string{"clientAuth is none: it asks for no client's certificate, and there is nobody's trust to try"}
	}
	if t.VerifyDepth == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s follows %d intermediate(s) in a client's chain unless it is set to follow more: set 2 before a root is replaced", t.Title, t.VerifyDepth)}
}
