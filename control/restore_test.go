package control

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

var root = Caller{Kind: Socket}

func (d *domain) sequence() {
	d.t.Helper()
	if _, err := d.SequenceAudit(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
}

// foreseen is a checkpoint of a log that is longer than the store's by as much.
func (d *domain) foreseen(more uint64, signer note.Signer) []byte {
	d.t.Helper()
	var size uint64
	err := d.db.Read(d.t.Context(), func(tx *store.Tx) error {
		var err error
		size, err = tx.TreeSize(d.t.Context())
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	cp := audit.Checkpoint{Origin: d.Origin(), Size: size + more, Root: audit.LeafHash([]byte("another log"))}
	signed, err := cp.Sign(signer)
	if err != nil {
		d.t.Fatal(err)
	}
	return signed
}

func (d *domain) rolledBack() bool {
	d.t.Helper()
	words, err := d.RolledBack(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return words != ""
}

func (h *host) show(checkpoint []byte, epoch uint64) {
	h.domain.t.Helper()
	if err := h.domain.Report(h.domain.t.Context(), h.caller, &api.AgentReport{Checkpoint: checkpoint, Epoch: epoch}); err != nil {
		h.domain.t.Fatal(err)
	}
}

// sign issues a certificate for a placement that no record tells of: what a copy
// of the store has forgotten.
func (d *domain) sign(names pki.Names) ca.Issued {
	d.t.Helper()
	key, _ := csr(d.t)
	prepared, err := d.issuingNow().Prepare(d.clock.now(), ca.Request{PublicKey: key.Public(), Names: names, Terms: ca.Terms{
		Lifetime: 24 * time.Hour, Backdate: time.Minute, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}})
	if err != nil {
		d.t.Fatal(err)
	}
	issued, err := d.issuingNow().Issue(prepared)
	if err != nil {
		d.t.Fatal(err)
	}
	return issued
}

func leafNames(t testing.TB) pki.Names {
	names, err := pki.ParseNames("", []string{"h.orders.test.example"}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Only what the log's own key signed, and what the log here does not go on
// from, sets the store back.
func TestWhatSetsAStoreBack(t *testing.T) {
	d := found(t)
	h := d.enrolHost(map[string]string{"role": "orders"})
	d.sequence()
	older, err := d.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.token(nil)
	d.sequence()
	newest, err := d.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	skey, _, err := audit.NewLogKey(d.Origin())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	for name, checkpoint := range map[string][]byte{
		"none": nil, "older": older, "newest": newest, "garbage": []byte("x\n"), "another key's": d.foreseen(5, stranger),
	} {
		if h.show(checkpoint, 1); d.rolledBack() {
			t.Fatalf("%s set the store back", name)
		}
	}
	// Another server grows the log, and its agent comes here.
	other := *d
	other.open()
	other.token(nil)
	d.clock.turn(sequencerLife) // until the log is another's to grow
	other.sequence()
	grown, err := other.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if h.show(grown, 1); d.rolledBack() {
		t.Fatal("what another server has just grown set the store back")
	}
	if h.show(d.foreseen(0, d.logSigner), 1); !d.rolledBack() {
		t.Fatal("another root at the same size did not set the store back")
	}
	if !other.rolledBack() {
		t.Error("the other server does not know")
	}
}

// All that a host says is weighed by signatures; what is wrong stays out, and
// the rest goes in.
func TestRestoreBelievesSignatures(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "h"})
	other := d.enrolHost(map[string]string{"role": "orders", "host": "i"})
	placement, foreign := h.placement(), other.placement()
	_, request := csr(t)
	h.issue(placement, 1, request)
	d.sequence()
	strange := found(t).sign(leafNames(t))
	two, three, stolen := d.sign(leafNames(t)), d.sign(leafNames(t)), d.sign(leafNames(t))
	identity := func(id string) ca.Issued {
		names, err := d.roleNames(pki.RoleAgent, id, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return d.sign(names)
	}
	own, others := identity(h.id), identity(other.id)
	seen := d.foreseen(9, d.logSigner)
	_, err := d.Testify(t.Context(), h.caller, &api.TestifyRequest{
		Checkpoint: seen, Epoch: 1, Identities: [][]byte{own.DER, others.DER, two.DER, []byte("x")},
		Placements: []*api.HeldPlacement{
			{PlacementId: placement, LastGeneration: 7, Certificates: []*api.HeldCertificate{
				{Generation: 2, Der: two.DER}, {Generation: 2, Der: two.DER}, {Generation: 1, Der: three.DER}, {Generation: 4, Der: strange.DER},
				{Generation: 5, Der: d.issuingNow().Certificate.Raw}, {Generation: 6, Der: nil},
			}},
			{PlacementId: foreign, LastGeneration: 50, Certificates: []*api.HeldCertificate{{Generation: 40, Der: stolen.DER}}},
		},
	})
	if err != nil || !d.rolledBack() {
		t.Fatal("not set back", err)
	}
	plan, err := d.Restore(t.Context(), root, &api.RestoreRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, one := range plan.Certificates {
		if one.Refused == "" {
			got[one.Serial] = one.PlacementId
		}
	}
	want := map[string]string{own.Serial.String(): "", two.Serial.String(): placement, three.Serial.String(): "", stolen.Serial.String(): ""}
	for serial, at := range want {
		if where, ok := got[serial]; !ok || where != at {
			t.Errorf("%s: at %q (%v), want %q", serial, where, ok, at)
		}
	}
	if len(got) != len(want) {
		t.Errorf("these get records: %v", got)
	}

	// A restore that is cut off at its last step has done nothing.
	before := len(d.entries())
	signer := d.logSigner
	d.logSigner = brokenSigner{signer}
	order := &api.RestoreRequest{Go: true, Reason: "disk failed", AcceptUnknown: true}
	if _, err := d.Restore(t.Context(), root, order); err == nil {
		t.Fatal("restored without a checkpoint")
	}
	d.restart()
	d.clock.turn(sequencerLife) // of the process that ended
	if !d.rolledBack() || len(d.entries()) != before || d.epoch() != 1 {
		t.Fatalf("cut off, it left %d entries of %d, epoch %d", len(d.entries()), before, d.epoch())
	}
	if _, err := d.Restore(t.Context(), root, order); err != nil {
		t.Fatal(err)
	}
	if d.rolledBack() || d.epoch() != 2 {
		t.Errorf("restored, in epoch %d", d.epoch())
	}
	n := 0
	for _, entry := range d.entries() {
		if strings.Contains(entry, `"verb":"certificate.reentered"`) {
			n++
		}
	}
	if n != len(want) {
		t.Errorf("%d entries of %d certificates", n, len(want))
	}
	if _, err := d.Restore(t.Context(), root, order); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("restored twice: %v", err)
	}
	// What was seen before the restore, by who does not know of it, is no news;
	// by who does, it is.
	if other.show(seen, 1); d.rolledBack() {
		t.Error("a witness of the log from before set it back again")
	}
	if other.show(seen, 2); !d.rolledBack() {
		t.Error("a log that is behind in its new epoch was not noticed")
	}
}

func (d *domain) epoch() uint64 {
	d.t.Helper()
	info, err := d.Info(d.t.Context(), operator, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return info.Epoch
}

// A list that an agent holds revokes again: what has a record, what gets one,
// and what is nowhere to be had and turns up later.
func TestRestoreRevokesAgain(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "h"})
	placement := h.placement()
	_, request := csr(t)
	if result := h.issue(placement, 1, request); result.Error != "" {
		t.Fatal(result.Error)
	}
	first, err := d.recordOf(placement, 1)
	if err != nil {
		t.Fatal(err)
	}
	names, err := d.roleNames(pki.RoleAgent, h.id, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	held, away, strange := d.sign(leafNames(t)), d.sign(names), found(t).sign(leafNames(t))
	list := d.list(4711, first.Serial, held.Serial, away.Serial)
	other := found(t).list(9, strange.Serial)
	_, err = d.Testify(t.Context(), h.caller, &api.TestifyRequest{
		Checkpoint: d.foreseen(1, d.logSigner), Epoch: 1, Crls: [][]byte{list, other, []byte("x")},
		Placements: []*api.HeldPlacement{{PlacementId: placement, LastGeneration: 2, Certificates: []*api.HeldCertificate{{Generation: 2, Der: held.DER}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Restore(t.Context(), root, &api.RestoreRequest{Crls: [][]byte{other}}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("a strange list by hand: %v", err)
	}
	response, err := d.Restore(t.Context(), root, &api.RestoreRequest{Go: true, Reason: "disk failed", AcceptUnknown: true})
	if err != nil || len(response.Revocations) != 3 {
		t.Fatal(response, err)
	}
	late, err := x509.ParseCertificate(away.DER)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // before and after it has testified
		for _, serial := range []pki.Serial{first.Serial, held.Serial, away.Serial} {
			if record, err := d.recordBy(serial); err != nil || record.RevokedAt.IsZero() || record.Reason != "keyCompromise" {
				t.Errorf("%s: %v, %v", serial, record.Reason, err)
			}
		}
		if _, err := d.IdentifyWitness(t.Context(), late, ""); fault.CodeOf(err) != fault.Forbidden || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("what was revoked identifies: %v", err)
		}
		if _, err := d.Testify(t.Context(), h.caller, &api.TestifyRequest{Epoch: 1, Identities: [][]byte{away.DER}}); err != nil {
			t.Fatal(err)
		}
	}
	if record, err := d.recordBy(strange.Serial); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("a strange list revoked %v", record)
	}
	if _, err := d.PublishCRLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	published, err := d.CRL(t.Context(), d.issuingNow().ID, int(away.Serial.Shard()))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseRevocationList(published.DER())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, entry := range parsed.RevokedCertificateEntries {
		found = found || entry.SerialNumber.Cmp(away.Serial.Big()) == 0
	}
	if !found {
		t.Error("the list does not have what is nowhere to be had")
	}
}

// An identity without a record opens testimony alone, while there is something
// to restore; one from after a restore opens nothing.
func TestWitnessMayTestifyOnly(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "h"})
	names, err := d.roleNames(pki.RoleAgent, h.id, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	identify := func(issued ca.Issued) (Caller, error) {
		cert, err := x509.ParseCertificate(issued.DER)
		if err != nil {
			t.Fatal(err)
		}
		return d.IdentifyWitness(t.Context(), cert, "192.0.2.1:1")
	}
	for name, issued := range map[string]ca.Issued{"another authority's": found(t).sign(names), "a leaf": d.sign(leafNames(t))} {
		if _, err := identify(issued); fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("%s identifies a witness: %v", name, err)
		}
	}
	issued := d.sign(names)
	witness, err := identify(issued)
	if err != nil || witness.Kind != Witness || witness.ID != h.id {
		t.Fatal(witness, err)
	}
	said := &api.TestifyRequest{Epoch: 1, Identities: [][]byte{issued.DER}}
	if _, err := d.Testify(t.Context(), witness, said); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("heard while nothing is amiss: %v", err)
	}
	for verb := range mayCall {
		if err := authorize(witness, verb); (err == nil) != (verb == "agent.testify") {
			t.Errorf("a witness may %s: %v", verb, err)
		}
	}
	away, err := identify(d.sign(names))
	if err != nil {
		t.Fatal(err)
	}
	lost := d.sign(names)
	said.Checkpoint = d.foreseen(3, d.logSigner)
	if response, err := d.Testify(t.Context(), witness, said); err != nil || !response.Taken || !d.rolledBack() {
		t.Fatal(response, err)
	}
	if _, err := d.Restore(t.Context(), root, &api.RestoreRequest{Go: true, Reason: "disk failed", AcceptUnknown: true}); err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(issued.DER)
	if caller, err := d.Identify(t.Context(), cert, ""); err != nil || caller.Kind != Agent {
		t.Errorf("after the restore: %v, %v", caller, err)
	}
	// One that was away is heard later, and gets its record then.
	for range 2 {
		if response, err := d.Testify(t.Context(), away, &api.TestifyRequest{Epoch: 1, Identities: [][]byte{lost.DER}}); err != nil || !response.Taken {
			t.Fatal(response, err)
		}
	}
	if record, err := d.recordBy(lost.Serial); err != nil || record.AgentID != h.id {
		t.Errorf("what was away got no record: %v, %v", record, err)
	}
	d.clock.turn(time.Minute)
	after := d.sign(names)
	if witness, err = identify(after); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Testify(t.Context(), witness, &api.TestifyRequest{Epoch: 1, Identities: [][]byte{after.DER}}); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("an identity from after the restore is heard: %v", err)
	}
}

// Lost entries are replayed in their order: what was lifted stays lifted, what
// was retired is retired again, numbers that were used stay used.
func TestRestoreReplaysLostEntries(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "h"})
	gone := d.enrolHost(map[string]string{"role": "orders", "host": "i"})
	placement := h.placement()
	for generation := range uint64(3) {
		_, request := csr(t)
		if result := h.issue(placement, generation+1, request); result.Error != "" {
			t.Fatal(result.Error)
		}
	}
	var serials []string
	for generation := range uint64(3) {
		record, err := d.recordOf(placement, generation+1)
		if err != nil {
			t.Fatal(err)
		}
		serials = append(serials, record.Serial.String())
	}
	nowhere := d.sign(leafNames(t))
	entry := func(verb, object string, detail map[string]any) []byte {
		content, err := audit.Entry{ID: newID(), Time: d.clock.now(), Actor: audit.Actor{Kind: "operator", ID: "ann"}, Verb: verb, Object: object, Outcome: audit.Done, Detail: detail}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	lost := [][]byte{
		entry("issue", "Placement/"+placement, map[string]any{"generation": 9, "serial": nowhere.Serial.String(), "authority": nowhere.Authority, "notAfter": nowhere.NotAfter.UTC().Format(time.RFC3339)}),
		entry("certificate.revoke", "Service/orders", map[string]any{"reason": "keyCompromise", "serials": []any{serials[0], nowhere.Serial.String(), "x"}}),
		entry("certificate.revoke", "Service/orders", map[string]any{"reason": store.OnHold, "serials": []any{serials[1], serials[2]}}),
		entry("revoke.lift", "Certificate/"+serials[1], map[string]any{"serial": serials[1]}),
		entry("agent.retire", "Agent/"+gone.id, map[string]any{"reason": "sold"}),
		entry("compromise.begin", "Service/orders", map[string]any{"compromise": "open", "note": "seen in a dump", "rehearsal": false}),
		entry("compromise.contained", "Service/orders", map[string]any{"compromise": "open"}),
		entry("compromise.begin", "Agent/"+h.id, map[string]any{"compromise": "over", "note": "", "rehearsal": true}),
		entry("compromise.contained", "Agent/"+h.id, map[string]any{"compromise": "over"}),
		entry("compromise.recovered", "Agent/"+h.id, map[string]any{"compromise": "over"}),
		entry("compromise.begin", "Key/00", map[string]any{"compromise": "let be", "note": ""}),
		entry("compromise.end", "Key/00", map[string]any{"compromise": "let be"}),
	}
	if _, err := d.Testify(t.Context(), h.caller, &api.TestifyRequest{Checkpoint: d.foreseen(uint64(len(lost)), d.logSigner), Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	restored, err := d.Restore(t.Context(), root, &api.RestoreRequest{Go: true, Reason: "disk failed", Entries: lost, AcceptUnknown: true})
	if err != nil {
		t.Fatal(err)
	}
	// The one that was not over is named, with what to do, and none of the others.
	if words := strings.Join(restored.Lost, "\n"); strings.Count(words, "compromise of") != 1 ||
		!strings.Contains(words, `("seen in a dump")`) || !strings.Contains(words, `rotunda compromise service "orders" --go`) {
		t.Errorf("of compromises it says: %s", words)
	}
	for i, want := range []string{"keyCompromise", "", store.OnHold} {
		serial, _ := pki.ParseSerial(serials[i])
		if record, err := d.recordBy(serial); err != nil || record.Reason != want || record.RevokedAt.IsZero() != (want == "") {
			t.Errorf("generation %d: %q, %v", i+1, record.Reason, err)
		}
	}
	if record, err := d.recordBy(nowhere.Serial); err != nil || record.RevokedAt.IsZero() || !record.NotAfter.Equal(nowhere.NotAfter) {
		t.Errorf("what is nowhere to be had: %v, %v", record, err)
	}
	agents, err := d.ListAgents(t.Context(), operator, &api.ListAgentsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, agent := range agents.Agents {
		if want := map[bool]string{true: "retired", false: "active"}[agent.Id == gone.id]; agent.State != want {
			t.Errorf("agent %s is %s, want %s", agent.Id, agent.State, want)
		}
	}
	err = d.db.Read(t.Context(), func(tx *store.Tx) error {
		record, err := tx.Placement(t.Context(), placement)
		if record.LastGeneration != 9 {
			t.Errorf("the last generation is %d, 9 was used", record.LastGeneration)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// All that writes goes through change, but what notes facts, what a store that
// is rolled back needs, and what says of it that it is.
func TestVerbsAskWhetherTheStoreIsRolledBack(t *testing.T) {
	direct := map[string]bool{
		"certificates.go": true, "connect.go": true, "entry.go": true, "placement.go": true, "report.go": true,
		"restore.go": true, "rolledback.go": true, "testify.go": true, "found.go": true,
		"servers.go":  true, // who is there
		"sequence.go": true, // gives a lease back; what grows the log asks
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 50 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "db.Write(") && !strings.HasSuffix(file, "_test.go") && !direct[file] {
			t.Errorf("%s writes without asking whether the store is rolled back: use change", file)
		}
	}
}

func (d *domain) recordBy(serial pki.Serial) (record store.Certificate, err error) {
	err = d.db.Read(d.t.Context(), func(tx *store.Tx) error {
		record, err = tx.Certificate(d.t.Context(), serial)
		return err
	})
	return record, err
}

func (d *domain) recordOf(placement string, generation uint64) (record store.Certificate, err error) {
	err = d.db.Read(d.t.Context(), func(tx *store.Tx) error {
		record, err = tx.PlacementCertificate(d.t.Context(), placement, generation)
		return err
	})
	return record, err
}

// list is one of the issuing authority's, of all its shards.
func (d *domain) list(number int64, serials ...pki.Serial) []byte {
	d.t.Helper()
	var entries []x509.RevocationListEntry
	for _, serial := range serials {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: serial.Big(), RevocationTime: d.clock.now(), ReasonCode: 1})
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: d.clock.now(), NextUpdate: d.clock.now().Add(time.Hour), RevokedCertificateEntries: entries,
	}, d.issuingNow().Certificate, d.signingKey())
	if err != nil {
		d.t.Fatal(err)
	}
	return der
}

func (d *domain) signingKey() (key crypto.Signer) {
	d.t.Helper()
	id := d.issuingNow().ID
	err := d.db.Read(d.t.Context(), func(tx *store.Tx) error {
		sealed, err := tx.AuthorityKey(d.t.Context(), id)
		if err != nil {
			return err
		}
		plain, err := d.kek.Unwrap(sealed.KEKID, sealed.Sealed, []byte(id))
		if err != nil {
			return err
		}
		parsed, err := x509.ParsePKCS8PrivateKey(plain)
		if err == nil {
			key = parsed.(crypto.Signer)
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return key
}
