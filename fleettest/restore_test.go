package fleettest

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

var root = 0

// OnSocket is root on the server's host.
var onSocket = control.Caller{Kind: control.Socket, UID: &root}

// backup copies the store of the running plane.
func (p *Plane) backup() string {
	p.t.Helper()
	to := filepath.Join(p.t.TempDir(), "copy.db")
	p.must(store.Backup(p.t.Context(), store.Locate(p.Config.Store), to, func(*store.Tx) error { return nil }))
	return to
}

// putBack exchanges the store of the stopped plane for a copy.
func (p *Plane) putBack(copied string) {
	p.t.Helper()
	storetest.PutBack(p.t, copied, p.Config.Store)
}

// log is all that has an index, once nothing is pending.
func (p *Plane) log() (entries [][]byte, size uint64) {
	p.t.Helper()
	for deadline := time.Now().Add(Patience); ; {
		_, next := p.Changed()
		list, err := p.ListAuditEntries(p.t.Context(), Operator, &api.ListAuditEntriesRequest{Newest: true, Limit: 1000})
		p.must(err)
		pending := false
		entries = nil
		for _, entry := range list.Entries {
			pending = pending || entry.Pending
			entries = append(entries, entry.Content)
		}
		if !pending {
			return entries, uint64(len(entries))
		}
		select {
		case <-next:
		case <-time.After(time.Until(deadline)):
			p.t.Fatal("entries stay pending")
		}
	}
}

// verbs are the audit entries of a verb.
func (p *Plane) verbs(verb string) (found []audit.Entry) {
	p.t.Helper()
	contents, _ := p.log()
	for _, content := range contents {
		entry, err := audit.Decode(content)
		p.must(err)
		if entry.Verb == verb {
			found = append(found, entry)
		}
	}
	return found
}

// witnessed waits until the hosts have seen the log at the size.
func witnessed(p *Plane, size uint64, hosts ...*Host) {
	p.t.Helper()
	for _, host := range hosts {
		p.await("a witness of the whole log", func() bool {
			signed, err := os.ReadFile(filepath.Join(host.Config.State, "witness"))
			p.must(err)
			lines := strings.Split(string(signed), "\n")
			return len(lines) > 1 && len(lines[1]) > 0 && atoi(lines[1]) >= size
		})
	}
}

func atoi(text string) (n uint64) {
	for _, digit := range text {
		n = n*10 + uint64(digit-'0')
	}
	return n
}

// await waits for a condition that no event of the plane tells of.
func (p *Plane) await(what string, condition func() bool) {
	p.t.Helper()
	p.within(Patience, what, condition)
}

func (p *Plane) within(limit time.Duration, what string, condition func() bool) {
	p.t.Helper()
	wake, stop := p.Watch()
	defer stop()
	deadline := time.After(limit)
	for !condition() {
		select {
		case <-wake:
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			p.t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func (p *Plane) rolledBack() string {
	p.t.Helper()
	words, err := p.RolledBack(p.t.Context())
	p.must(err)
	return words
}

func (p *Plane) agents() map[string]*api.AgentInfo {
	p.t.Helper()
	list, err := p.ListAgents(p.t.Context(), Operator, &api.ListAgentsRequest{})
	p.must(err)
	byHost := map[string]*api.AgentInfo{}
	for _, one := range list.Agents {
		byHost[one.Labels["host"]] = one
	}
	return byHost
}

// rejoin gives a host's agent a new identity.
func (p *Plane) rejoin(host *Host, id string) {
	p.t.Helper()
	host.Stop()
	created, err := p.CreateToken(p.t.Context(), Operator, &api.CreateTokenRequest{RejoinAgentId: id})
	p.must(err)
	host.Token = created.Token
	host.Start()
}

// A store is put back from a copy. In between all was rotated, one agent has
// got another identity, one was retired, one is away when the store is restored.
func TestRestoreOfAnOlderCopy(t *testing.T) {
	t.Parallel()
	p := NewPlane(t)
	hosts := fleetOf(p, 4)
	p.Await("first issuance", Steady(4, 1))
	// Old keys stay: that they were destroyed would be entered at moments of its own.
	p.Apply("apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: files}\nspec: {lifetime: 24h, usages: [serverAuth], keyAge: 0s, grace: 1h}\n")
	p.log()
	copied := p.backup()

	p.must1(p.Rotate(t.Context(), Operator, &api.RotateRequest{All: true, NewKey: true}))
	p.Await("all have rotated", Steady(4, 2))
	ids := p.agents()
	p.rejoin(hosts[1], ids["h1"].Id)
	p.must1(p.RetireAgent(t.Context(), Operator, &api.RetireAgentRequest{AgentId: ids["h2"].Id, Reason: "sold"}))
	p.await("all are connected but the one that was retired", func() bool {
		now := p.agents()
		return now["h0"].Connected && now["h1"].Connected && !now["h2"].Connected && now["h3"].Connected
	})
	p.await("all lists are out, so that the log rests", func() bool {
		published, err := p.PublishCRLs(t.Context())
		p.must(err)
		return published == 0
	})
	lost, size := p.log()
	witnessed(p, size, hosts[0], hosts[1], hosts[3])
	issued := p.certificates()
	before := map[int]string{}
	for i, host := range hosts {
		before[i] = read(t, filepath.Join(host.Tree(), "h"+string(rune('0'+i)), "current"))
	}
	hosts[3].Stop()
	p.Stop()
	p.putBack(copied)
	p.Start()

	p.await("a witness has been heard", func() bool { return p.rolledBack() != "" })
	p.holdsStill(t)
	p.Stop()
	p.Start() // it lasts
	p.holdsStill(t)

	plan := &api.RestoreResponse{}
	p.await("both that are there have testified", func() bool {
		var err error
		plan, err = p.Restore(t.Context(), onSocket, &api.RestoreRequest{Entries: lost})
		p.must(err)
		n := 0
		for _, one := range plan.Agents {
			if one.TestifiedAt != nil {
				n++
			}
		}
		return n >= 2 && plan.SeenSize >= size
	})
	if !plan.Complete {
		t.Errorf("the whole log was given, and is said to be incomplete: %v", plan)
	}
	if plan.Epoch != 2 || p.rolledBack() == "" {
		t.Errorf("a look changed something: %v", plan)
	}
	_, err := p.Restore(t.Context(), onSocket, &api.RestoreRequest{Go: true, Reason: "disk failed", Entries: lost[:len(lost)-1]})
	if fault.CodeOf(err) != fault.Conflict {
		t.Errorf("restored although an entry is missing: %v", err)
	}
	_, err = p.Restore(t.Context(), Operator, &api.RestoreRequest{Go: true, Reason: "disk failed", Entries: lost})
	if fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("restored by an operator from afar: %v", err)
	}
	p.must1(p.Restore(t.Context(), onSocket, &api.RestoreRequest{Go: true, Reason: "disk failed", Entries: lost}))
	if words := p.rolledBack(); words != "" {
		t.Errorf("after the restore: %s", words)
	}

	// Nothing is un-revoked, and each certificate that is held is there once.
	if now := p.agents(); now["h2"].State != "retired" {
		t.Errorf("the agent that was retired is %s", now["h2"].State)
	}
	p.await("the agents take the new epoch, with an alarm", func() bool {
		now := p.agents()
		return strings.Contains(now["h0"].Alarm, "restored (disk failed)") && strings.Contains(now["h1"].Alarm, "restored (disk failed)") && now["h1"].Connected
	})
	for i := range hosts {
		if after := read(t, filepath.Join(hosts[i].Tree(), "h"+string(rune('0'+i)), "current")); after != before[i] {
			t.Errorf("what h%d serves has changed", i)
		}
	}

	// The one that was away comes back, and numbers go on.
	hosts[3].Start()
	p.await("the one that was away is back", func() bool {
		now := p.agents()
		return now["h3"].Connected && strings.Contains(now["h3"].Alarm, "restored (disk failed)")
	})
	p.await("generation 2 is on record for all that hold it", func() bool { return len(missing(p, issued, ids["h2"].Id)) == 0 })
	p.reenteredOnce(t)
	if words := p.rolledBack(); words != "" {
		t.Fatalf("the one that came back set the store back again: %s", words)
	}
	p.must1(p.Rotate(t.Context(), Operator, &api.RotateRequest{All: true}))
	p.Await("all but the retired one have gone on to generation 3", func(all []*api.PlacementStatus) bool {
		n := 0
		for _, one := range all {
			if one.State == api.State_STATE_STEADY && one.Generation == 3 {
				n++
			}
		}
		return n == 3
	})
	if words := p.rolledBack(); words != "" {
		t.Fatalf("it stands again: %s", words)
	}

	// Only on the host is the alarm ended.
	p.must(agent.Acknowledge(hosts[0].Config, time.Now()))
	hosts[0].Stop()
	hosts[0].Start()
	p.await("the alarm is over where it was acknowledged, and there alone", func() bool {
		now := p.agents()
		return now["h0"].Connected && now["h0"].Alarm == "" && now["h1"].Alarm != ""
	})
}

// holdsStill checks a plane whose store is rolled back.
func (p *Plane) holdsStill(t *testing.T) {
	t.Helper()
	for name, act := range map[string]func() error{
		"rotate": func() error { _, err := p.Rotate(t.Context(), Operator, &api.RotateRequest{All: true}); return err },
		"token":  func() error { _, err := p.CreateToken(t.Context(), Operator, &api.CreateTokenRequest{}); return err },
		"apply": func() error {
			_, err := p.Control.Apply(t.Context(), Operator, &api.ApplyRequest{Files: []*api.SourceFile{{Path: "x.yaml", Content: []byte("apiVersion: rotunda/v1\nkind: Service\nmetadata: {name: new}\nspec: {owner: {team: t, contact: c@x.example, runbook: \"https://x.example/\"}}\n")}}})
			return err
		},
		"retire": func() error {
			_, err := p.RetireAgent(t.Context(), Operator, &api.RetireAgentRequest{AgentId: p.agents()["h0"].Id})
			return err
		},
	} {
		if err := act(); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "rolled back") {
			t.Errorf("%s while the store is rolled back: %v", name, err)
		}
	}
	if words := p.readyz(); !strings.HasPrefix(words, "503 ") {
		t.Errorf("/readyz says %s", words)
	}
	for _, path := range []string{"/bundle.pem", "/log/checkpoint"} {
		response, err := http.Get("http://" + p.Config.Listen.Public + path)
		p.must(err)
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s says %s", path, response.Status)
		}
	}
}

func (p *Plane) certificates() []*api.CertificateInfo {
	p.t.Helper()
	list, err := p.ListCertificates(p.t.Context(), Operator, &api.ListCertificatesRequest{})
	p.must(err)
	return list.Certificates
}

// missing are the certificates of before that have no record now, but for those
// that nobody holds any more: of the agent named, and of the server itself.
func missing(p *Plane, before []*api.CertificateInfo, nobody string) (all []string) {
	now := map[string]bool{}
	for _, one := range p.certificates() {
		now[one.Serial] = true
	}
	for _, one := range before {
		if !now[one.Serial] && one.Kind == "leaf" && one.Agent != nobody {
			all = append(all, one.Serial)
		}
	}
	return all
}

func (p *Plane) reenteredOnce(t *testing.T) {
	t.Helper()
	seen := map[any]bool{}
	entries := p.verbs("certificate.reentered")
	for _, entry := range entries {
		serial := entry.Detail["serial"]
		if seen[serial] {
			t.Errorf("certificate %v was re-entered twice", serial)
		}
		seen[serial] = true
	}
	if len(entries) < 4 { // three leaves of generation 2, an identity
		t.Errorf("%d certificates were re-entered", len(entries))
	}
}

func (p *Plane) must1(_ any, err error) {
	p.t.Helper()
	p.must(err)
}
