package storetest

import (
	"bytes"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

// raw opens the store beside itself.
func (b *bench) raw() *sql.DB { return Raw(b.t, b.place.Path+b.place.URL) }

// stored is what a statement finds in the store's tables.
func (b *bench) stored(statement string, args ...any) (value []byte) {
	b.t.Helper()
	b.check(b.raw().QueryRow(statement, args...).Scan(&value))
	return value
}

func (b *bench) change(statement string, args ...any) {
	b.t.Helper()
	_, err := b.raw().Exec(statement, args...)
	b.check(err)
}

// like is a leaf as they are, of which much is in its names and what the policy saw.
func like(n byte) store.Certificate {
	c := leaf(n)
	c.PolicyInput = []byte(`{"Service":"orders","Intent":"orders-db","Agent":{"ID":"agent-1","Labels":{"host":"db"}},"DNSNames":["db.example.org"],"URI":""}`)
	c.DER = append([]byte("0\x82\x02\xa5 db.example.org "), bytes.Repeat([]byte{n, 0x0b, 0x1a, 0x80}, 20)...)
	return c
}

func (b *bench) enter(n int) (content []byte) {
	b.t.Helper()
	content = []byte(`{"actor":{"kind":"server"},"detail":{"names":["` + strings.Repeat("db", n) + `"]},"id":"` + entryID(n) + `","outcome":"done","verb":"issue"}`)
	b.write(func(tx *store.Tx) error {
		return tx.AppendAuditEntries(b.ctx, store.PendingEntry{ID: entryID(n), Content: content, LeafHash: audit.LeafHash(content)})
	})
	return content
}

// reads demands that all that reads certificates and entries finds these.
func (b *bench) reads(leaves []store.Certificate, contents [][]byte) {
	b.t.Helper()
	same(b, find(b, func(tx *store.Tx) ([]store.Certificate, error) {
		return tx.Certificates(b.ctx, store.CertificateQuery{Kind: store.KindLeaf})
	}), leaves)
	last := leaves[len(leaves)-1]
	same(b, find(b, func(tx *store.Tx) (store.Certificate, error) {
		return tx.NewestPlacementCertificate(b.ctx, "placement-1")
	}), last)
	newest := find(b, func(tx *store.Tx) ([]store.NewestLeaf, error) { return tx.NewestLeaves(b.ctx) })
	same(b, newest, []store.NewestLeaf{{PlacementID: "placement-1", Generation: last.Generation, Names: last.Names, PolicyInput: last.PolicyInput, SPKI: last.SPKI}})
	for i, entry := range find(b, func(tx *store.Tx) ([]store.AuditEntry, error) { return tx.NewestAuditEntries(b.ctx, 10) }) {
		same(b, string(entry.Content), string(contents[i]))
	}
}

// testTerse: while servers may be there that can't read what is packed nothing is,
// then all is; and what stood there before is read as ever.
func testTerse(t *testing.T, b *bench) {
	const known = migrations.Schema
	terse := func() bool { return find(b, func(tx *store.Tx) (bool, error) { return tx.IsTerse(b.ctx) }) }
	becomes := func() { b.write(func(tx *store.Tx) error { return tx.BecomeTerse(b.ctx) }) }
	if !terse() {
		t.Error("a new store is not terse")
	}
	b.change(`UPDATE store_meta SET min_server_schema = 24`)
	b.withPlacements("placement-1")
	b.withCertificates(like(1))
	before := b.enter(1)
	if der := b.stored(`SELECT der FROM certificate`); !bytes.Equal(der, like(1).DER) || !bytes.Equal(b.stored(`SELECT content FROM audit_entry`), before) {
		t.Errorf("servers of the schema before would read %q", der)
	}

	older := store.Server{Instance: "older", Name: "older", Schema: 25, StartedAt: start}
	b.write(func(tx *store.Tx) error {
		newer := older
		newer.Instance, newer.Schema = "newer", known
		return errors.Join(tx.PutServer(b.ctx, older), tx.PutServer(b.ctx, newer))
	})
	if becomes(); terse() {
		t.Error("terse beside a server of the schema before")
	}
	b.write(func(tx *store.Tx) error { return tx.RemoveServer(b.ctx, "older") })
	if becomes(); !terse() {
		t.Error("not terse once there is no other")
	}

	b.write(func(tx *store.Tx) error { return tx.InsertCertificates(b.ctx, like(2), like(3)) })
	after := b.enter(2)
	for n := byte(2); n <= 3; n++ {
		id := serial(n)
		if n, was := len(b.stored(`SELECT der FROM certificate WHERE serial = $1`, id[:])), len(like(2).DER)+len(like(2).PolicyInput)+len(like(2).Rule); n > was*3/5 {
			t.Errorf("%d bytes of a certificate are %d", was, n)
		}
		if rest := b.stored(`SELECT COALESCE(policy_input, '') || rule FROM certificate WHERE serial = $1`, id[:]); len(rest) > 0 {
			t.Errorf("beside it stands %q", rest)
		}
	}
	b.reads([]store.Certificate{like(1), like(2), like(3)}, [][]byte{before, after})
	b.write(func(tx *store.Tx) error { _, err := b.sequence(tx, 10); return err })
	if n := len(b.stored(`SELECT content FROM audit_entry WHERE id = $1 AND idx = 1`, entryID(2))); n > len(after)/2 {
		t.Errorf("%d bytes of an entry are %d", len(after), n)
	}
	b.reads([]store.Certificate{like(1), like(2), like(3)}, [][]byte{before, after})
	b.reopen(false)
	b.reads([]store.Certificate{like(1), like(2), like(3)}, [][]byte{before, after})
}

// testTerseTakenBack: what is packed by an authority that is taken back is no
// model for what another of its id signs, however large that one's certificate.
func testTerseTakenBack(t *testing.T, b *bench) {
	b.withPlacements("placement-1")
	add := func(tx *store.Tx, der string) error {
		by := authority()
		by.Certificate = []byte(der)
		return errors.Join(tx.InsertAuthority(b.ctx, by), tx.InsertCertificates(b.ctx, like(1)))
	}
	huge := strings.Repeat("the longest that there is \x1a", 4000)
	failed := errors.New("failed")
	err := b.Write(b.ctx, func(tx *store.Tx) error { return errors.Join(add(tx, "the one that is taken back"), failed) })
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	b.write(func(tx *store.Tx) error { return add(tx, huge) })
	b.reopen(false)
	b.reads([]store.Certificate{like(1)}, nil)
}

// testTerseDamaged: a certificate that is damaged is not shown, an entry is as it
// stands there, so that its hash tells.
func testTerseDamaged(t *testing.T, b *bench) {
	b.withCertificates(like(1))
	content := b.enter(1)
	b.write(func(tx *store.Tx) error { _, err := b.sequence(tx, 1); return err })
	der, entry := b.stored(`SELECT der FROM certificate`), b.stored(`SELECT content FROM audit_entry`)
	der[len(der)-1] ^= 1
	entry[len(entry)-1] ^= 1
	b.change(`UPDATE certificate SET der = $1`, der)
	b.change(`UPDATE audit_entry SET content = $1`, entry)
	err := b.Read(b.ctx, func(tx *store.Tx) error { _, err := tx.Certificate(b.ctx, like(1).Serial); return err })
	if err == nil || !strings.Contains(err.Error(), like(1).Serial.String()) {
		t.Errorf("a damaged certificate: %v", err)
	}
	shown := find(b, func(tx *store.Tx) (store.AuditEntry, error) { return tx.AuditEntryByID(b.ctx, entryID(1)) })
	if !bytes.Equal(shown.Content, entry) || bytes.Equal(shown.Content, content) {
		t.Errorf("a damaged entry: %q", shown.Content)
	}
}
