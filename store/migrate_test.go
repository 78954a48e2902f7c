package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/migrations"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

// first makes a store of the first schema, with content.
func first(t *testing.T, path, content string) {
	t.Helper()
	migrated(t, path, 1, content)
}

// migrated makes a store of a schema, with that content.
func migrated(t *testing.T, path string, schema int64, content string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, migrations.Files,
		goose.WithDisableGlobalRegistry(true), goose.WithTableName("store_migration"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(content); err != nil {
		t.Fatal(err)
	}
}

// TestMigrateFromFirst: what a store of the first schema held is there, slots
// that were held are held, and what nobody has looked at yet is known to be so.
func TestMigrateFromFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	first(t, path, `
		INSERT INTO agent VALUES ('agent-1', 'active', '{}', '{}', '', '', 0, 1, 'token-1', 1, NULL);
		INSERT INTO placement VALUES ('p1', 'db', 'agent-1', 'main', 'redis', FALSE, 3, TRUE, 2, NULL, NULL, NULL, 3, 4, 7, 1);
		INSERT INTO slot VALUES ('s1', 'c1', 'agent-1', 'redis', 'p1', 'begun', 1, 2, 3, NULL, '');
		UPDATE store_meta SET trust_domain = 'test.example';`)
	db := open(t, path)
	err := db.Read(t.Context(), func(tx *store.Tx) error {
		meta, err := tx.Meta(t.Context())
		if err != nil {
			return err
		}
		p, err := tx.Placement(t.Context(), "p1")
		if err != nil {
			return err
		}
		slot, err := tx.PlacementSlot(t.Context(), "p1")
		if err != nil {
			return err
		}
		unplaced, err := tx.UnplacedTargets(t.Context())
		if meta.MinServerSchema >= 26 {
			t.Errorf("servers of the schema before are refused at once: %d", meta.MinServerSchema)
		}
		if meta.Schema != migrations.Schema || p.RenewThrough != 3 || p.LastGeneration != 4 || p.Cluster != "" || !p.RenewFrom.IsZero() ||
			slot.State != store.SlotBegun || slot.Revision != 0 || !unplaced {
			t.Errorf("schema %d, placement %+v, slot %+v, unplaced %v", meta.Schema, p, slot, unplaced)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Write(t.Context(), func(tx *store.Tx) error { return tx.SetPlacementTarget(t.Context(), "p1", "redis", "c1") })
	if err != nil {
		t.Fatal(err)
	}
	err = db.Read(t.Context(), func(tx *store.Tx) error {
		unplaced, err := tx.UnplacedTargets(t.Context())
		if unplaced {
			t.Error("still unplaced")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestQuestionsUseIndexes: what is asked for each placement at each change must
// not grow with the fleet.
func TestQuestionsUseIndexes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	db := storetest.Raw(t, path)
	postgres := storetest.Raw(t, makeShared(t, postgrestest.Run(t)))
	postgres.SetMaxOpenConns(1)
	// Of tables that are empty it would read all, for want of better.
	if _, err := postgres.Exec("SET enable_seqscan = off"); err != nil {
		t.Fatal(err)
	}
	for question, index := range map[string]string{
		`SELECT id FROM placement WHERE intent = 'i' AND failed_at IS NOT NULL AND NOT orphan
			AND (resumed_at IS NULL OR failed_at > resumed_at) ORDER BY failed_at, id LIMIT 1`: "placement_failed",
		`SELECT EXISTS (SELECT 1 FROM profile_override WHERE ended_at IS NULL)`:                                                     "profile_override_stands",
		`SELECT id FROM placement WHERE cluster = 'c' AND cluster <> '' AND NOT orphan ORDER BY id`:                                 "placement_cluster",
		`SELECT DISTINCT cluster FROM placement WHERE asks_slot > 0 AND cluster <> '' AND NOT orphan ORDER BY cluster`:              "placement_asks",
		`SELECT id FROM slot WHERE placement_id = 'p' AND state IN ('granted', 'begun')`:                                            "slot_placement",
		`SELECT id FROM slot WHERE agent_id = 'a' AND state IN ('granted', 'begun')`:                                                "slot_agent",
		`SELECT id FROM slot WHERE state IN ('granted', 'begun') AND cluster = 'c'`:                                                 "slot_held",
		`SELECT id FROM slot WHERE state IN ('ended', 'lapsed') AND ('' = '' OR cluster = '') ORDER BY granted_at DESC, id`:         "slot_ended",
		`SELECT id FROM rollout WHERE ended_at IS NULL ORDER BY name`:                                                               "rollout_open",
		`SELECT wave FROM rollout_part WHERE rollout_id = 'r' ORDER BY position`:                                                    "sqlite_autoindex_rollout_part",
		`UPDATE rollout_part SET asked_at = 1 WHERE rollout_id = 'r' AND placement_id = 'p' AND asked_at IS NULL`:                   "rollout_part_placement",
		`SELECT der FROM staple WHERE serial = 's' AND newest`:                                                                      "staple_newest",
		`SELECT id FROM placement p WHERE p.intent = 'i' AND NOT p.orphan ORDER BY p.id`:                                            "sqlite_autoindex_placement",
		`SELECT serial FROM certificate WHERE agent_id = 'a' AND kind = 'agent' AND placement_id IS NULL ORDER BY issued_at`:        "certificate_agent",
		`SELECT id FROM placement WHERE agent_id BETWEEN 'a' AND 'b' ORDER BY agent_id, id`:                                         "placement_agent",
		`SELECT id FROM placement WHERE (intent, agent_id, instance) > ('i', 'a', 'm') ORDER BY intent, agent_id, instance LIMIT 9`: "sqlite_autoindex_placement",
		`SELECT id FROM placement WHERE intent = 'i' AND (agent_id, instance) > ('a', 'm')
			ORDER BY intent, agent_id, instance LIMIT 9`: "sqlite_autoindex_placement",
		`SELECT serial FROM certificate WHERE placement_id = 'p' AND generation = 1`:                                         "certificate_generation",
		`SELECT serial FROM certificate WHERE kind = 'leaf' AND issued_at >= 1 AND not_after > 1 ORDER BY not_after, serial`: "certificate_not_after",
		`SELECT p.id, c.serial FROM placement p JOIN certificate c ON c.placement_id = p.id
			AND c.generation = (SELECT MAX(generation) FROM certificate WHERE placement_id = p.id) WHERE p.id IN ('p', 'q')`: "certificate_generation",
		`SELECT generation FROM certificate WHERE revoked_at IS NOT NULL AND not_after >= 1 AND placement_id IN ('p', 'q')`: "certificate_generation",
		`SELECT id FROM placement WHERE agent_id IN ('a', 'b')`:                                                             "placement_agent",
		`SELECT serial FROM certificate WHERE spki = 's' ORDER BY not_after, serial`:                                        "certificate_spki",
		`SELECT serial FROM certificate WHERE fingerprint = 'f' ORDER BY not_after, serial`:                                 "certificate_fingerprint",
		`SELECT serial FROM certificate WHERE authority_id = 'a' AND not_after > 1 AND revoked_at IS NULL`:                  "certificate_authority",
		`SELECT serial FROM certificate WHERE revoked_at IS NULL AND serial IN ('a', 'b')`:                                  "sqlite_autoindex_certificate",
		`SELECT id, content, leaf_hash FROM (SELECT id, content, leaf_hash FROM audit_pending
			UNION ALL SELECT id, content, leaf_hash FROM audit_entry WHERE idx IS NULL) AS pending ORDER BY id LIMIT 1`: "MERGE (UNION ALL)",
		`SELECT id FROM audit_entry WHERE idx IS NOT NULL AND idx >= 1 ORDER BY idx LIMIT 1`:               "audit_entry_index",
		`SELECT COUNT(*) FROM (SELECT 1 FROM placement WHERE cluster IS NULL LIMIT 1) AS one`:              "placement_unplaced",
		`SELECT idx * 256 + LENGTH(hashes) / 32 FROM audit_tile WHERE level = 0 ORDER BY idx DESC LIMIT 1`: "sqlite_autoindex_audit_tile",
		`SELECT COUNT(*) FROM staple WHERE next_update <= 1`:                                               "staple_next_update",
	} {
		if plan := explain(t.Context(), t, db, "EXPLAIN QUERY PLAN "+question, 4); !strings.Contains(plan, index) {
			t.Errorf("%s\n%s", question, plan)
		}
		if plan := explain(t.Context(), t, postgres, "EXPLAIN "+question, 1); strings.Contains(plan, "Seq Scan") {
			t.Errorf("PostgreSQL: %s\n%s", question, plan)
		}
	}
}

// explain returns the last of the columns in which a plan is told.
func explain(ctx context.Context, t *testing.T, db *sql.DB, question string, columns int) (plan string) {
	t.Helper()
	rows, err := db.QueryContext(ctx, question)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var detail string
		into := make([]any, columns)
		for i := range into {
			into[i] = new(any)
		}
		into[columns-1] = &detail
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		plan += detail + "\n"
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan
}

// TestPendingOfAnOlderStore: a copy that was never migrated is looked through, too.
func TestPendingOfAnOlderStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	first(t, path, `INSERT INTO audit_entry (id, content, leaf_hash) VALUES ('e1', x'00', zeroblob(32)), ('e2', x'00', zeroblob(32)); UPDATE audit_entry SET idx = 0 WHERE id = 'e1'`)
	err := store.ReadCopy(t.Context(), path, func(tx *store.Tx) error {
		n, err := tx.CountPendingAuditEntries(t.Context())
		if n != 1 {
			t.Errorf("%d entries are pending, want 1", n)
		}
		for _, id := range []string{"e1", "e2"} {
			entry, found := tx.AuditEntryByID(t.Context(), id)
			if err = errors.Join(err, found); entry.Pending != (id == "e2") {
				t.Errorf("%+v", entry)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestMigrateReferences: what refers to entries is there after its table was made anew.
func TestMigrateReferences(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	migrated(t, path, 25, `
		INSERT INTO audit_entry (id, idx, content, leaf_hash) VALUES ('e1', 0, x'7b7d', zeroblob(32)), ('e2', NULL, x'7b7d', zeroblob(32));
		INSERT INTO archive VALUES ('a.jsonl.zst', 'e1', 10, 2, zeroblob(16), zeroblob(16), zeroblob(32), 1, 2, 3);
		INSERT INTO rolled_back VALUES ('r1', 1, 'agent-1', x'00', 9, 8, 2, 1, 'e2');`)
	err := open(t, path).Read(t.Context(), func(tx *store.Tx) error {
		archives, err := tx.Archives(t.Context())
		if len(archives) != 1 || archives[0].EntryID != "e1" || archives[0].Bytes != 10 {
			t.Errorf("archives %+v", archives)
		}
		last, found := tx.LastRestore(t.Context())
		if last == nil || last.EntryID != "e2" || last.SeenSize != 9 {
			t.Errorf("the restore %+v", last)
		}
		return errors.Join(err, found)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestMigrateLogToTiles: a log whose hashes stood one by one has tiles that give
// its root, and is grown by them.
func TestMigrateLogToTiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	const many = 70000 // more than is moved at once
	tree := audit.NewTree()
	var content strings.Builder
	for i := range many {
		leaf := audit.LeafHash(fmt.Append(nil, i))
		if err := tree.Append(leaf); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&content, "INSERT INTO audit_entry VALUES ('e%06d', %d, '%d', x'%x');\n", i, i, i, leaf[:])
	}
	first(t, path, fmt.Sprintf("BEGIN; %s UPDATE store_meta SET trust_domain = 'test.example', tree_size = %d; COMMIT;", content.String(), many))
	err := open(t, path).Read(t.Context(), func(tx *store.Tx) error {
		root, err := audit.Root(many, tx.AuditTiles(t.Context()))
		if root != tree.Root() {
			t.Errorf("the tiles give %s, want %s", root, tree.Root())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
