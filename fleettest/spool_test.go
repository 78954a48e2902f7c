package fleettest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	reference "golang.org/x/crypto/ocsp"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// region is a server behind a network that can be cut, which spools, and another
// server of the same store that nothing cuts off.
type region struct {
	t        *testing.T
	one, cut *Plane
	network  *proxy
}

func newRegion(t *testing.T, most int) *region {
	t.Helper()
	db := postgrestest.Run(t)
	direct := db.Database(t)
	r := &region{t: t, network: newProxy(t, fmt.Sprintf("127.0.0.1:%d", db.Port))}
	r.one = NewPlaneAt(t, direct)
	r.one.Apply(strings.ReplaceAll(documents, "TREE", t.TempDir()))
	r.cut = r.one.another()
	parsed, err := url.Parse(direct)
	r.one.must(err)
	parsed.Host = r.network.address
	r.cut.Config.Store = parsed.String()
	r.cut.Config.OnStoreOutage = "spool"
	r.cut.Config.Spool.Directory, r.cut.Config.Spool.Most, r.cut.Config.Spool.For = filepath.Join(r.cut.Dir, "spool"), most, fleet.Duration(time.Hour)
	return r
}

// host enrols one who asks at the server that will be cut off.
func (r *region) host(name string) *asking {
	r.t.Helper()
	p := r.one
	fields := strings.SplitN(p.Token(map[string]string{"role": "files", "host": name}), ".", 6)
	key, csr := p.newKey()
	enrolled, err := p.Enrol(r.t.Context(), control.Caller{Kind: control.Anonymous}, &api.EnrolRequest{
		TokenId: fields[1], TokenSecret: fields[2], TrustDomain: TrustDomain, Csr: csr,
	})
	p.must(err)
	a := &asking{
		plane: p, own: tls.Certificate{Certificate: enrolled.Chain, PrivateKey: key},
		requests: map[uint64][]byte{}, answers: map[uint64][]byte{},
	}
	for _, placement := range p.Placements() {
		if placement.Agent == enrolled.AgentId {
			a.placement = placement.Id
		}
	}
	return a
}

// must asks for the next generation until there is an answer.
func (r *region) next(a *asking) *x509.Certificate {
	r.t.Helper()
	generation := a.take()
	r.again(a, generation)
	leaf, err := x509.ParseCertificate(a.answers[generation])
	r.one.must(err)
	return leaf
}

func (r *region) again(a *asking, generation uint64) {
	r.t.Helper()
	conn := a.dialTo(r.cut)
	defer conn.Close()
	r.one.await(fmt.Sprintf("generation %d", generation), func() bool {
		return r.try(a, api.NewAgentServiceClient(conn), generation) == nil
	})
}

// try asks once, and not for long: a call to a store that says nothing takes a minute.
func (r *region) try(a *asking, client api.AgentServiceClient, generation uint64) error {
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Second)
	defer cancel()
	a.mu.Lock()
	csr := a.requests[generation]
	a.mu.Unlock()
	response, err := client.Issue(ctx, &api.IssueRequest{Requests: []*api.PlacementRequest{{PlacementId: a.placement, Generation: generation, Csr: csr}}})
	if err != nil {
		return err
	}
	if result := response.Results[0]; result.ErrorCode != "" {
		return fmt.Errorf("%s: %s", result.ErrorCode, result.Error)
	} else if before, known := a.answers[generation]; known && string(before) != string(result.Chain[0]) {
		r.t.Errorf("generation %d: asked again, another certificate came", generation)
	} else {
		a.answers[generation] = result.Chain[0]
	}
	return nil
}

// refusal is how a request is refused.
func (r *region) refusal(a *asking) string {
	conn := a.dialTo(r.cut)
	defer conn.Close()
	return fmt.Sprint(r.try(a, api.NewAgentServiceClient(conn), a.take()))
}

// figure is a metric of the server that may be cut off; -1: it can't be had.
func (r *region) figure(name string) float64 {
	response, err := http.Get("http://" + r.cut.Config.Listen.Metrics + "/metrics")
	if err != nil {
		return -1
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	for _, line := range strings.Split(string(text), "\n") {
		if value, found := strings.CutPrefix(line, "rotunda_"+name+" "); found {
			var number float64
			fmt.Sscan(value, &number)
			return number
		}
	}
	return -1
}

func (r *region) cutOff(known float64) {
	r.t.Helper()
	r.one.await("the snapshot has all", func() bool { return r.figure("spool_placements") == known })
	r.network.hold()
	r.network.reset()
}

func (r *region) heal() {
	r.t.Helper()
	r.network.heal()
	r.network.reset()
	r.one.await("it is back", func() bool { return r.figure("cut_off") == 0 && r.figure("spooled_certificates") == 0 })
}

// record is what the store has of a certificate, and its entry's detail.
func (r *region) record(leaf *x509.Certificate) (record store.Certificate, detail map[string]any) {
	r.t.Helper()
	serial, err := pki.SerialOf(leaf)
	r.one.must(err)
	r.one.must(r.one.db.Read(r.t.Context(), func(tx *store.Tx) error {
		if record, err = tx.Certificate(r.t.Context(), serial); err != nil {
			return err
		}
		entries, err := tx.NewestAuditEntries(r.t.Context(), 1<<20)
		for _, stored := range entries {
			entry, err := audit.Decode(stored.Content)
			if err != nil {
				return err
			}
			if entry.Verb == "issue" && entry.Detail["serial"] == serial.String() {
				if detail != nil {
					r.t.Errorf("%s has two entries", serial)
				}
				detail = entry.Detail
			}
		}
		return err
	}))
	return record, detail
}

// A server that is cut off renews what it knows, and no more than that; killed
// between spooling and handing in, and again after it has handed in and before its
// spool is empty, it loses and doubles nothing.
func TestCutOffServerSpools(t *testing.T) {
	t.Parallel()
	const most = 4
	r := newRegion(t, most)
	old, fresh := r.host("old"), r.host("fresh")
	process := r.cut.startProcess()
	r.next(old)
	r.cutOff(1)

	for range most {
		r.next(old)
	}
	r.again(old, 2) // the same certificate
	if n := r.figure("spooled_certificates"); n != most {
		t.Errorf("%v certificates are spooled", n)
	}
	if words := r.refusal(old); !strings.Contains(words, "4 certificates are spooled, and no more may be (spool.most)") {
		t.Errorf("beyond the limit: %s", words)
	}
	if words := r.refusal(fresh); !strings.Contains(words, "is not known here as one of agent") {
		t.Errorf("a first certificate: %s", words)
	}
	if words := r.enrolment(); !strings.Contains(words, "Unavailable") && !strings.Contains(words, "DeadlineExceeded") {
		t.Errorf("an enrolment: %s", words)
	}
	for _, path := range []string{"/crl/" + r.one.IssuingNow().ID + "/0.crl", "/bundle.pem", "/log/checkpoint"} {
		if words := r.public(path); !strings.HasPrefix(words, "503") || !strings.Contains(words, "cut off from its store") {
			t.Errorf("%s: %s", path, words)
		}
	}
	if words := r.bySocket(); !strings.Contains(words, "cut off from its store") {
		t.Errorf("an operator: %s", words)
	}
	leaf, err := x509.ParseCertificate(old.answers[2])
	r.one.must(err)
	if status := r.ocsp(leaf); status != reference.TryLater {
		t.Errorf("OCSP says %v", status)
	}
	delete(old.requests, most+2) // what was refused

	spooled := r.spoolFile()
	kill(t, process)
	for i := range 2 { // the second time it finds in the spool what the store has
		r.network.heal()
		r.network.reset()
		if i > 0 {
			r.one.must(os.WriteFile(filepath.Join(r.cut.Config.Spool.Directory, "certificates.spool"), spooled, 0o600))
		}
		process = r.cut.startProcess()
		old.checkStore()
		for generation := range uint64(most + 1) {
			r.again(old, generation+1)
		}
		r.one.must(process.Process.Signal(syscall.SIGTERM))
		r.one.must(process.Wait())
		if i == 0 && string(r.spoolFile()) == string(spooled) {
			t.Error("the spool was not emptied")
		}
	}
	if record, detail := r.record(leaf); !record.RevokedAt.IsZero() || detail["spooledAt"] == nil || !record.IssuedAt.Before(r.one.db.Now()) {
		t.Errorf("recorded: %+v, %v", record, detail)
	}
	if len(old.answers) != most+1 {
		t.Errorf("%d answers", len(old.answers))
	}
}

func (r *region) spoolFile() []byte {
	r.t.Helper()
	content, err := os.ReadFile(filepath.Join(r.cut.Config.Spool.Directory, "certificates.spool"))
	r.one.must(err)
	return content
}

// enrolment is how an enrolment at the server that is cut off ends.
func (r *region) enrolment() string {
	a := &asking{plane: r.one}
	conn := a.dialTo(r.cut)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Second)
	defer cancel()
	_, csr := r.one.newKey()
	_, err := api.NewAgentServiceClient(conn).Enrol(ctx, &api.EnrolRequest{TokenId: "x", TokenSecret: "y", TrustDomain: TrustDomain, Csr: csr})
	return fmt.Sprint(err)
}

// soon bounds what must not wait for the store.
const soon = 2 * time.Second

// public is how the server that is cut off answers a GET.
func (r *region) public(path string) string {
	r.t.Helper()
	response, err := (&http.Client{Timeout: soon}).Get("http://" + r.cut.Config.Listen.Public + path)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	return response.Status + " " + string(content)
}

// bySocket is how it answers an operator on its host.
func (r *region) bySocket() string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), soon)
	defer cancel()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.cut.Config.AdminSocket)
	}
	client := apiconnect.NewOperatorServiceClient(&http.Client{Transport: &http.Transport{DialContext: dial}}, "http://socket")
	_, err := client.Info(ctx, connect.NewRequest(&api.InfoRequest{}))
	return fmt.Sprint(err)
}

func (r *region) ocsp(leaf *x509.Certificate) reference.ResponseStatus {
	r.t.Helper()
	issuer := r.one.IssuingNow()
	request, err := reference.CreateRequest(leaf, issuer.Certificate, nil)
	r.one.must(err)
	client := &http.Client{Timeout: Patience}
	response, err := client.Post("http://"+r.cut.Config.Listen.Public+"/ocsp/"+issuer.ID, "application/ocsp-request", strings.NewReader(string(request)))
	r.one.must(err)
	defer response.Body.Close()
	der, err := io.ReadAll(response.Body)
	r.one.must(err)
	_, err = reference.ParseResponse(der, issuer.Certificate)
	refused, ok := err.(reference.ResponseError)
	if !ok {
		r.t.Fatalf("OCSP: %v, %d bytes, %s", err, len(der), response.Status)
	}
	return refused.Status
}

// A server that is killed at any instruction while it spools, or hands in, has given
// nothing away that is not in the store once afterwards.
func TestKilledWhileItSpools(t *testing.T) {
	r := newRegion(t, 10_000)
	a := r.host("h")
	process := r.cut.startProcess()
	r.next(a)
	for range 2 {
		r.cutOff(1)
		r.next(a)
		conn := a.dialTo(r.cut)
		a.askUntilKilled(conn, process, 20+rand.IntN(200))
		conn.Close()
		r.network.heal()
		r.network.reset()
		process = r.cut.startProcess()
		a.checkStore()
		conn = a.dialTo(r.cut)
		a.askAgain(conn)
		conn.Close()
		a.checkStore()
	}
	if len(a.answers) != len(a.requests) || len(a.answers) < 40 {
		t.Errorf("%d answers to %d requests", len(a.answers), len(a.requests))
	}
	r.one.must(process.Process.Signal(syscall.SIGTERM))
	r.one.must(process.Wait())
}

// What was revoked or changed meanwhile at another server is revoked as it is
// handed in, with its reason; what was not stands.
func TestRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRegion(t, 100)
	names := []string{"stands", "retired", "placement", "renamed", "elsewhere"}
	hosts := map[string]*asking{}
	process := r.cut.startProcess()
	for _, name := range names {
		hosts[name] = r.host(name)
		r.next(hosts[name])
	}
	r.cutOff(float64(len(names)))
	leaves := map[string]*x509.Certificate{}
	for _, name := range names {
		leaves[name] = r.next(hosts[name])
	}
	agentOf := func(name string) string {
		for _, placement := range r.one.Placements() {
			if placement.Id == hosts[name].placement {
				return placement.Agent
			}
		}
		return ""
	}
	_, err := r.one.RetireAgent(t.Context(), Operator, &api.RetireAgentRequest{AgentId: agentOf("retired"), Reason: "sold"})
	r.one.must(err)
	_, err = r.one.Revoke(t.Context(), Operator, &api.RevokeRequest{Placement: hosts["placement"].placement, Reason: "keyCompromise", Now: true})
	r.one.must(err)
	_, err = r.one.LabelAgent(t.Context(), Operator, &api.LabelAgentRequest{AgentId: agentOf("renamed"), Set: map[string]string{"host": "other"}})
	r.one.must(err)
	// All is declared anew, and the same is granted.
	r.one.Apply("apiVersion: rotunda/v1\nkind: Service\nmetadata: {name: other}\nspec: {owner: {team: t, contact: t@fleet.example, runbook: \"https://fleet.example/x\"}}\n")
	// The same generation, at the server that goes on.
	conn := hosts["elsewhere"].dialTo(r.one)
	other := &asking{plane: r.one, own: hosts["elsewhere"].own, placement: hosts["elsewhere"].placement, requests: hosts["elsewhere"].requests, answers: map[uint64][]byte{}}
	r.one.must(other.ask(api.NewAgentServiceClient(conn), 2))
	conn.Close()

	r.heal()
	for name, want := range map[string]string{"stands": "", "retired": "cessationOfOperation", "placement": "keyCompromise", "renamed": "privilegeWithdrawn", "elsewhere": "superseded"} {
		record, detail := r.record(leaves[name])
		if detail == nil || detail["spooledAt"] == nil || record.RevokedAt.IsZero() != (want == "") || record.Reason != want {
			t.Errorf("%s: revoked %v for %q, entry %v; want %q", name, record.RevokedAt, record.Reason, detail, want)
		}
	}
	served := map[string]bool{}
	r.one.await("the list has them", func() bool {
		for name, leaf := range leaves {
			served[name] = r.listed(leaf)
		}
		return served["retired"] && served["placement"] && served["renamed"] && served["elsewhere"]
	})
	if served["stands"] {
		t.Error("what stands is listed as revoked")
	}
	r.next(hosts["stands"]) // as ever
	r.one.must(process.Process.Signal(syscall.SIGTERM))
	r.one.must(process.Wait())
}

func (r *region) listed(leaf *x509.Certificate) bool {
	r.t.Helper()
	serial, err := pki.SerialOf(leaf)
	r.one.must(err)
	crl, err := r.one.CRL(r.t.Context(), r.one.IssuingNow().ID, int(serial.Shard()))
	if err != nil {
		return false
	}
	list, err := x509.ParseRevocationList(crl.DER())
	r.one.must(err)
	for _, entry := range list.RevokedCertificateEntries {
		if entry.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

// A whole agent at a server that is cut off renews what it was told to before, and
// is told the newest when the store is back.
func TestAgentOfACutOffServer(t *testing.T) {
	r := newRegion(t, 100)
	r.cut.Start()
	t.Cleanup(func() { r.network.heal(); r.cut.Stop() })
	host := r.cut.NewHost(map[string]string{"role": "files", "host": "h"})
	root := t.TempDir()
	host.Config.Allow.Directories = []string{root}
	r.one.Apply(strings.ReplaceAll(strings.ReplaceAll(documents, "TREE", root), "lifetime: 24h", "lifetime: 20s, rideOut: 1s, backdate: 0s"))
	host.Start()
	r.one.Await("first certificate", Steady(1, 1))
	r.cutOff(1)
	r.one.await("it renews without the store", func() bool { return r.figure("spooled_certificates") >= 1 })
	r.heal()
	newest := r.one.Placements()[0]
	spooled := 0
	r.one.must(r.one.db.Read(t.Context(), func(tx *store.Tx) error {
		records, err := tx.PlacementCertificates(t.Context(), newest.Id)
		for _, record := range records {
			leaf, _ := x509.ParseCertificate(record.DER)
			if _, detail := r.record(leaf); detail["spooledAt"] != nil && record.RevokedAt.IsZero() {
				spooled++
			}
		}
		return err
	}))
	if spooled == 0 {
		t.Error("no certificate of the spool has its record")
	}
	r.one.Await("all that was renewed is reported", func(all []*api.PlacementStatus) bool {
		return len(all) == 1 && all[0].Generation > newest.Generation && all[0].State == api.State_STATE_STEADY && all[0].Restores == 0
	})
}
