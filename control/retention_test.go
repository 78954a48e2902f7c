package control

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

const keptDays = 90 * 24 * time.Hour

// past is a domain in which a host has had generations that ended long ago, and
// one that has just been issued.
type past struct {
	*domain
	host      *host
	placement string
	gone      []store.Certificate // that may go: all but the last
	newest    store.Certificate
}

func longPast(t *testing.T) *past {
	t.Helper()
	d := found(t)
	d.retain()
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	p := &past{domain: d, host: h, placement: h.placement()}
	const generations = 5
	for g := uint64(1); g <= generations; g++ {
		_, request := csr(t)
		if result := h.issue(p.placement, g, request); result.Error != "" {
			t.Fatal(result.Error)
		}
		record, err := d.recordOf(p.placement, g)
		if err != nil {
			t.Fatal(err)
		}
		p.gone, p.newest = append(p.gone, record), record
	}
	p.gone = p.gone[:generations-1]
	p.inUse(generations)
	d.clock.turn(keptDays + 3*24*time.Hour)
	return p
}

// retain gives the domain an archive, and a retention of certificates.
func (d *domain) retain() {
	d.Control.retention = Retention{Certificates: keptDays, Evidence: keptDays, Notices: keptDays, Checkpoints: 30 * 24 * time.Hour}
	d.Control.archive = archive.Dir(filepath.Join(d.dir, "archive"))
}

// inUse says of the placement what its agent would report.
func (p *past) inUse(generation uint64) {
	p.t.Helper()
	raw, err := proto.Marshal(&api.PlacementReport{PlacementId: p.placement, Generation: generation, LastGeneration: generation})
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(func(tx *store.Tx) error {
		return tx.SetPlacementReport(p.t.Context(), p.placement, store.Reported{Report: raw, Generation: generation, Last: generation, NotAfter: p.newest.NotAfter})
	})
}

func (d *domain) write(fn func(*store.Tx) error) {
	d.t.Helper()
	if err := d.db.Write(d.t.Context(), fn); err != nil {
		d.t.Fatal(err)
	}
}

func (d *domain) pass() Pass {
	d.t.Helper()
	pass, err := d.Retain(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return pass
}

func (d *domain) files() []string {
	d.t.Helper()
	names, err := d.archive.Names()
	if err != nil {
		d.t.Fatal(err)
	}
	return names
}

// once checks that each certificate is at exactly one place: a row, or a line of
// an archive that the log vouches for.
func (p *past) once() (rows, lines int) {
	p.t.Helper()
	for _, record := range append(slices.Clone(p.gone), p.newest) {
		found, err := p.ListArchivedCertificates(p.t.Context(), operator, &api.ListArchivedCertificatesRequest{Fingerprint: record.Fingerprint.String()})
		if err != nil || len(found.Damaged) > 0 {
			p.t.Fatal(found, err)
		}
		_, err = p.recordBy(record.Serial)
		switch {
		case err == nil && len(found.Certificates) == 0:
			rows++
		case fault.CodeOf(err) == fault.NotFound && len(found.Certificates) == 1:
			lines++
			one := found.Certificates[0]
			if one.Serial != record.Serial.String() || string(one.Der) != string(record.DER) || one.Generation != record.Generation {
				p.t.Errorf("archived is %v, recorded was %v", one, record)
			}
		default:
			p.t.Errorf("certificate %s: %d lines of archives, row: %v", record.Serial, len(found.Certificates), err)
		}
	}
	return rows, lines
}

// What ended long ago goes to an archive, whole and once, with its manifest in
// the log; the newest of the placement, of the agent and of the server stay. A
// second pass finds nothing.
func TestExpiredCertificatesAreArchived(t *testing.T) {
	p := longPast(t)
	if pass, err := p.RunRetention(t.Context(), operator, &api.RunRetentionRequest{DryRun: true}); err != nil || pass.Pass.Certificates != 4 {
		t.Fatalf("foreseen: %v, %v", pass, err)
	}
	if rows, lines := p.once(); rows != 5 || lines != 0 {
		t.Fatalf("%d rows and %d lines after a look", rows, lines)
	}
	pass := p.pass()
	if pass.Certificates != 4 || len(pass.Archives) != 1 {
		t.Fatalf("pass: %+v", pass)
	}
	if rows, lines := p.once(); rows != 1 || lines != 4 {
		t.Fatalf("%d rows and %d lines", rows, lines)
	}
	if _, err := p.SequenceAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rows, lines := p.once(); rows != 1 || lines != 4 {
		t.Fatalf("%d rows and %d lines once the entry has its place", rows, lines)
	}
	if pass := p.pass(); pass.Certificates != 0 || len(p.files()) != 1 {
		t.Fatalf("a second pass: %+v, %v", pass, p.files())
	}
	manifests := 0
	for _, line := range p.entries() {
		if strings.Contains(line, `"certificate.archive"`) {
			manifests++
			if !strings.Contains(line, pass.Archives[0].SHA256) {
				t.Errorf("manifest: %s", line)
			}
		}
	}
	if manifests != 1 {
		t.Errorf("%d manifests in the log", manifests)
	}
	p.restart()
	p.retain()
	if rows, lines := p.once(); rows != 1 || lines != 4 {
		t.Fatalf("%d rows and %d lines after a restart", rows, lines)
	}
}

// A crash between the file and its transaction loses nothing and doubles nothing:
// the next pass takes the file over.
func TestCrashBetweenFileAndTransaction(t *testing.T) {
	p := longPast(t)
	if _, err := p.writeArchive(p.gone); err != nil {
		t.Fatal(err)
	}
	p.restart()
	p.retain()
	left := p.files()
	if rows, lines := p.once(); rows != 5 || lines != 0 || len(left) != 1 {
		t.Fatalf("%d rows, %d lines, files %v", rows, lines, left)
	}
	if pass := p.pass(); pass.Adopted != 1 || pass.Certificates != 4 {
		t.Fatalf("pass: %+v", pass)
	}
	if rows, lines := p.once(); rows != 1 || lines != 4 || !slices.Equal(p.files(), left) {
		t.Fatalf("%d rows, %d lines, files %v", rows, lines, p.files())
	}
}

// A file that was left by a crash, and whose records changed since, is of no use:
// what it holds goes into another, and it is removed.
func TestStaleFileIsRemoved(t *testing.T) {
	p := longPast(t)
	stale, err := p.writeArchive(p.gone)
	if err != nil {
		t.Fatal(err)
	}
	p.write(func(tx *store.Tx) error { return tx.RevokeCertificate(t.Context(), p.gone[0].Serial, "superseded") })
	if p.gone[0], err = p.recordBy(p.gone[0].Serial); err != nil {
		t.Fatal(err)
	}
	pass := p.pass()
	if pass.Strays != 1 || pass.Certificates != 3 || slices.Contains(p.files(), stale.File) {
		t.Fatalf("pass: %+v, files %v", pass, p.files())
	}
	if rows, lines := p.once(); rows != 2 || lines != 3 {
		t.Fatalf("%d rows, %d lines: what waits for its list must stay", rows, lines)
	}
}

// A file with a record that is nowhere else is never removed: the store may be an
// older one than it is.
func TestStrayWithSomethingOfItsOwnStays(t *testing.T) {
	p := longPast(t)
	own := p.gone[0]
	own.Serial[15] ^= 1
	own.Generation = 9
	stray, err := p.writeArchive([]store.Certificate{own})
	if err != nil {
		t.Fatal(err)
	}
	junk := filepath.Join(string(p.archive), "certificates-20200101-"+strings.Repeat("0", 32)+".jsonl.zst")
	if err := os.WriteFile(junk, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if pass := p.pass(); pass.Certificates != 4 {
		t.Fatalf("pass: %+v", pass)
	}
	status, err := p.RetentionStatus(t.Context(), operator, &api.RetentionStatusRequest{Verify: true})
	if err != nil || len(status.Strays) != 2 || !slices.Contains(status.Strays, stray.File) || len(status.Damaged) != 0 {
		t.Fatalf("status: %v, %v", status, err)
	}
}

// Of an archive that was altered nothing is believed, and of one that is gone it
// is said; a search by something else than the serial says so too.
func TestDamagedArchiveIsNotBelieved(t *testing.T) {
	for _, harm := range []struct {
		name, state string
		do          func(string) error
	}{
		{"a byte is flipped", "altered", func(path string) error {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content[len(content)/2] ^= 1
			return os.WriteFile(path, content, 0o600)
		}},
		{"it is exchanged for another that is well formed", "altered", func(path string) error {
			_, packed, err := archive.Pack([]archive.Record{{Serial: strings.Repeat("0", 32), Kind: "leaf", Names: "evil"}})
			if err != nil {
				return err
			}
			return os.WriteFile(path, packed, 0o600)
		}},
		{"it is cut off", "altered", func(path string) error { return os.Truncate(path, 10) }},
		{"it is removed", "missing", os.Remove},
	} {
		t.Run(harm.name, func(t *testing.T) {
			p := longPast(t)
			p.pass()
			if err := harm.do(filepath.Join(string(p.archive), p.files()[0])); err != nil {
				t.Fatal(err)
			}
			for _, request := range []*api.ListArchivedCertificatesRequest{
				{Serial: p.gone[0].Serial.String()}, {Fingerprint: p.gone[0].Fingerprint.String()}, {Placement: p.placement},
			} {
				found, err := p.ListArchivedCertificates(t.Context(), operator, request)
				if err != nil || len(found.Certificates) != 0 || len(found.Damaged) != 1 || found.Damaged[0].State != harm.state {
					t.Errorf("%v: %v, %v", request, found, err)
				}
			}
			status, err := p.RetentionStatus(t.Context(), operator, &api.RetentionStatusRequest{Verify: true})
			if err != nil || len(status.Damaged) != 1 || status.Damaged[0].State != harm.state || status.Damaged[0].Problem == "" {
				t.Errorf("status: %v, %v", status, err)
			}
		})
	}
}

// A manifest that was rewritten in the store, to suit a file that was exchanged,
// is not in the tree that was signed.
func TestManifestMustBeInTheLog(t *testing.T) {
	p := longPast(t)
	p.pass()
	if _, err := p.SequenceAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var entry store.AuditEntry
	err := p.db.Read(t.Context(), func(tx *store.Tx) error {
		archives, err := tx.Archives(t.Context())
		if err == nil {
			entry, err = tx.AuditEntryByID(t.Context(), archives[0].EntryID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Replace(entry.Content, []byte(`"count":4`), []byte(`"count":3`), 1)
	if _, err := storetest.Raw(t, p.place).Exec(`UPDATE audit_entry SET content = $1 WHERE id = $2`, content, entry.ID); err != nil {
		t.Fatal(err)
	}
	p.retain()
	found, err := p.ListArchivedCertificates(t.Context(), operator, &api.ListArchivedCertificatesRequest{Placement: p.placement})
	if err != nil || len(found.Certificates) != 0 || len(found.Damaged) != 1 || !strings.Contains(found.Damaged[0].Problem, "was altered") {
		t.Errorf("%v, %v", found, err)
	}
}

// The number of a generation is used, whether its record is here or archived.
func TestArchivedGenerationIsNotGivenAgain(t *testing.T) {
	p := longPast(t)
	p.pass()
	p.host.calls()
	_, request := csr(t)
	result := p.host.issue(p.placement, 2, request)
	if result.ErrorCode != string(fault.Conflict) || !strings.Contains(result.Error, "archived") {
		t.Fatalf("generation 2 once more: %v", result)
	}
	if result := p.host.issue(p.placement, 6, request); result.Error != "" {
		t.Fatalf("the next one: %v", result)
	}
}

// calls has the host seen now.
func (h *host) calls() {
	h.domain.write(func(tx *store.Tx) error { return tx.SetAgentSeen(h.domain.t.Context(), h.id) })
}

// What an agent holds of old certificates, and old lists of them, does not bring
// archived ones back in a restore.
func TestRestoreLeavesTheArchivedAlone(t *testing.T) {
	p := longPast(t)
	p.pass()
	p.write(func(tx *store.Tx) error {
		r, err := p.newRecovery(t.Context(), tx)
		if err != nil {
			return err
		}
		said := &api.TestifyRequest{Placements: []*api.HeldPlacement{{PlacementId: p.placement, LastGeneration: 5}}, Crls: [][]byte{p.list(7, p.gone[1].Serial)}}
		for _, one := range p.gone {
			said.Placements[0].Certificates = append(said.Placements[0].Certificates, &api.HeldCertificate{Generation: one.Generation, Der: one.DER})
		}
		r.hear(p.host.id, said)
		if err := r.weigh(); err != nil {
			return err
		}
		if len(r.fresh) != 0 || len(r.revoked) != 0 || len(r.refused) != 0 {
			t.Errorf("fresh %d, revoked %d, refused %v", len(r.fresh), len(r.revoked), r.refused)
		}
		return nil
	})
	if rows, lines := p.once(); rows != 1 || lines != 4 {
		t.Fatalf("%d rows, %d lines", rows, lines)
	}
}

// Nothing goes on which something rests still.
func TestWhatIsNeededStays(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*past)
		goes int
	}{
		{"nothing rests on it", func(*past) {}, 4},
		{"an older generation is in use", func(p *past) { p.inUse(3) }, 2},
		{"nothing was reported yet", func(p *past) { p.inUse(0) }, 0},
		{"it waits for its list", func(p *past) {
			p.write(func(tx *store.Tx) error { return tx.RevokeCertificate(p.t.Context(), p.gone[1].Serial, "superseded") })
		}, 3},
		{"it is on its list", func(p *past) {
			p.write(func(tx *store.Tx) error { return tx.RevokeCertificate(p.t.Context(), p.gone[1].Serial, "superseded") })
			if _, err := p.PublishCRLs(p.t.Context()); err != nil {
				p.t.Fatal(err)
			}
		}, 3},
		{"it was on its list until it had ended", func(p *past) {
			p.write(func(tx *store.Tx) error { return tx.RevokeCertificate(p.t.Context(), p.gone[1].Serial, "superseded") })
			for range 3 {
				if _, err := p.PublishCRLs(p.t.Context()); err != nil {
					p.t.Fatal(err)
				}
				p.clock.turn(24 * time.Hour)
			}
		}, 4},
		{"an open revocation has it", func(p *past) {
			p.write(func(tx *store.Tx) error {
				return tx.InsertRevocation(p.t.Context(), store.Revocation{ID: newID(), Object: "x", Reason: "superseded"}, []pki.Serial{p.gone[0].Serial})
			})
		}, 3},
		{"the store is rolled back", func(p *past) {
			p.write(func(tx *store.Tx) error {
				return tx.RollBack(p.t.Context(), store.RolledBack{ID: newID(), Witness: "w", Seen: []byte("x"), SeenSize: 9})
			})
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := longPast(t)
			c.do(p)
			if pass := p.pass(); pass.Certificates != c.goes {
				t.Errorf("%d go, want %d", pass.Certificates, c.goes)
			}
			if _, err := p.recordOf(p.placement, 5); err != nil {
				t.Error(err)
			}
		})
	}
}

// An agent that is away may come back by the identity that it had: only one that
// ended before it called last may go, and never the newest.
func TestIdentitiesThatAgentsMayHoldStay(t *testing.T) {
	p := longPast(t)
	identities := func() (n int) {
		if err := p.db.Read(t.Context(), func(tx *store.Tx) error {
			all, err := tx.AgentIdentities(t.Context(), p.host.id)
			n = len(all)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	_, request := csr(t)
	if _, err := p.RenewIdentity(t.Context(), p.host.caller, &api.RenewIdentityRequest{Csr: request}); err != nil {
		t.Fatal(err)
	}
	p.pass()
	if n := identities(); n != 2 {
		t.Fatalf("%d identities of an agent that has not called since: want 2", n)
	}
	p.host.calls()
	p.pass()
	if n := identities(); n != 1 {
		t.Fatalf("%d identities of an agent that has: want 1", n)
	}
	p.clock.turn(2 * keptDays)
	p.host.calls()
	p.pass()
	if n := identities(); n != 1 {
		t.Fatalf("%d identities: the newest must stay", n)
	}
}

// Of two servers one carries retention out.
func TestRetentionIsLeased(t *testing.T) {
	p := longPast(t)
	p.write(func(tx *store.Tx) error {
		_, err := tx.TakeLease(t.Context(), retentionLease, "another", time.Minute)
		return err
	})
	_, err := p.Retain(t.Context())
	wantCode(t, err, fault.Conflict)
	p.clock.turn(2 * time.Minute)
	if pass := p.pass(); pass.Certificates != 4 {
		t.Fatalf("pass: %+v", pass)
	}
	p.write(func(tx *store.Tx) error { // it was given back
		_, err := tx.TakeLease(t.Context(), retentionLease, "another", time.Minute)
		return err
	})
}

// A store of the schema before is terse a day after the last server that could not
// read it, and not before: until then one may be gone back to.
func TestAnOlderStoreBecomesTerse(t *testing.T) {
	d := found(t)
	d.retain()
	if _, err := storetest.Raw(t, d.place).Exec(`UPDATE store_meta SET min_server_schema = 24`); err != nil {
		t.Fatal(err)
	}
	older := store.Server{Instance: "older", Name: "older", Schema: 25, StartedAt: d.now()}
	d.write(func(tx *store.Tx) error { return tx.PutServer(t.Context(), older) })
	terse := func() (is bool) {
		t.Helper()
		if _, err := d.Retain(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := d.db.Read(t.Context(), func(tx *store.Tx) (err error) { is, err = tx.IsTerse(t.Context()); return err })
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	if terse() {
		t.Error("at once")
	}
	d.clock.turn(serverKnown - time.Minute)
	d.write(func(tx *store.Tx) error { return tx.PutServer(t.Context(), older) })
	d.clock.turn(2 * time.Minute)
	if terse() {
		t.Error("beside an older server")
	}
	d.write(func(tx *store.Tx) error { return tx.RemoveServer(t.Context(), "older") })
	if !terse() {
		t.Error("not once it is gone")
	}
}
