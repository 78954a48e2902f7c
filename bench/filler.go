package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"path"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// filler fills a store with what differs from a certificate that was issued, and
// from its entry, in all that differs between hosts: names, ids, keys, signatures
// and times.
type filler struct {
	model    store.Certificate
	name     string   // of the model's host, in its names
	differs  [][2]int // from and to where the DER has what is random
	hosts    []host
	now      time.Time
	randomly []byte // as much as the DER has
}

// host is an agent, with the placement that the intent means for it.
type host struct{ agent, placement string }

func newFiller(ctx context.Context, db *store.DB) (*filler, error) {
	f := &filler{now: time.Now().UTC()}
	err := db.Read(ctx, func(tx *store.Tx) error {
		leaves, err := tx.Certificates(ctx, store.CertificateQuery{Kind: store.KindLeaf})
		if err == nil && len(leaves) == 0 {
			err = fmt.Errorf("no certificate was issued that could be copied")
		}
		if err != nil {
			return err
		}
		f.model = leaves[0] // of those that were issued before there were copies
		for _, leaf := range leaves {
			if leaf.IssuedAt.Before(f.model.IssuedAt) {
				f.model = leaf
			}
		}
		placements, err := tx.IntentPlacements(ctx, "bench")
		for _, placement := range placements {
			f.hosts = append(f.hosts, host{placement.AgentID, placement.ID})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, f.look()
}

// look finds what is random in the model's DER.
func (f *filler) look() error {
	parsed, err := x509.ParseCertificate(f.model.DER)
	if err != nil {
		return err
	}
	f.name = path.Base(f.model.Names)
	key, signature := parsed.RawSubjectPublicKeyInfo, parsed.Signature
	const point, half = 64, 30 // bytes of a key of P-256, and most of either half of a signature by one
	for _, random := range [][]byte{key[len(key)-point:], parsed.SubjectKeyId, signature[6:][:half], signature[len(signature)-half:]} {
		at := bytes.Index(f.model.DER, random)
		if at < 0 {
			return fmt.Errorf("the certificate that was issued is not as the bench knows them")
		}
		f.differs = append(f.differs, [2]int{at, at + len(random)})
	}
	f.randomly = make([]byte, len(f.model.DER))
	return nil
}

// write has work done in one transaction, which may run again.
func (f *filler) write(ctx context.Context, db *store.DB, work func(*store.Tx) error) error {
	known := len(f.hosts)
	return db.Write(ctx, func(tx *store.Tx) error {
		f.hosts = f.hosts[:known]
		return work(tx)
	})
}

// addHosts adds agents, each with the placement that the intent means for it.
func (f *filler) addHosts(ctx context.Context, tx *store.Tx) error {
	for range filledAtOnce {
		agent := store.Agent{ID: newID(), State: fleet.AgentActive, Labels: map[string]string{"host": "bench"}, EnrolledAt: f.now}
		placement := store.Placement{ID: newID(), Intent: "bench", AgentID: agent.ID, Instance: "main"}
		if err := tx.InsertAgent(ctx, agent); err != nil {
			return err
		}
		if err := tx.InsertPlacement(ctx, placement); err != nil {
			return err
		}
		f.hosts = append(f.hosts, host{agent.ID, placement.ID})
	}
	return nil
}

// add adds the certificates of these numbers: of one host after the other.
func (f *filler) add(ctx context.Context, tx *store.Tx, from, to int) error {
	var certificates []store.Certificate
	var entries []store.PendingEntry
	for i := from; i < to; i++ {
		certificate, err := f.certificate(i)
		if err != nil {
			return err
		}
		entry := f.entry(i, certificate, tx.Now)
		content, err := entry.Encode()
		if err != nil {
			return err
		}
		certificates = append(certificates, certificate)
		entries = append(entries, store.PendingEntry{ID: entry.ID, Content: content, LeafHash: audit.LeafHash(content)})
	}
	if err := tx.InsertCertificates(ctx, certificates...); err != nil {
		return err
	}
	return tx.AppendAuditEntries(ctx, entries...)
}

// certificate is like the model, a second later than the one before.
func (f *filler) certificate(i int) (store.Certificate, error) {
	c, at := f.model, f.hosts[i%mostHosts]
	later := time.Duration(i) * time.Second
	serial, err := pki.NewSerial(f.now.Add(later), rand.Reader)
	if err != nil {
		return c, err
	}
	c.Serial, c.CRLShard, c.AgentID, c.PlacementID = serial, int(serial.Shard()), at.agent, at.placement
	c.Generation = uint64(1 + i/mostHosts)
	c.NotBefore, c.NotAfter, c.IssuedAt = c.NotBefore.Add(later), c.NotAfter.Add(later), c.IssuedAt.Add(later)
	if _, err := rand.Read(f.randomly); err != nil {
		return c, err
	}
	c.DER = bytes.Clone(f.model.DER)
	for _, part := range f.differs {
		copy(c.DER[part[0]:part[1]], f.randomly[part[0]:part[1]])
	}
	name := fmt.Sprintf("%0*d", len(f.name), i%1_000_000)
	again := func(text []byte, pairs ...string) []byte {
		for ; len(pairs) > 0; pairs = pairs[2:] {
			text = bytes.ReplaceAll(text, []byte(pairs[0]), []byte(pairs[1]))
		}
		return text
	}
	const utcTime = "060102150405Z"
	c.DER = again(c.DER, string(f.model.Serial[:]), string(serial[:]), f.name, name,
		f.model.NotBefore.Format(utcTime), c.NotBefore.Format(utcTime), f.model.NotAfter.Format(utcTime), c.NotAfter.Format(utcTime))
	c.Names = string(again([]byte(c.Names), f.name, name))
	c.PolicyInput = again(c.PolicyInput, f.model.AgentID, at.agent, f.name, name)
	c.Fingerprint, c.SPKI = sha256.Sum256(c.DER), sha256.Sum256(f.randomly)
	return c, nil
}

// entry is what the issuance of the certificate enters.
func (f *filler) entry(i int, c store.Certificate, now time.Time) audit.Entry {
	return audit.Entry{
		ID: newID(), Time: now.Add(time.Duration(i) * time.Millisecond), Verb: "issue", Object: "Placement/" + c.PlacementID, Outcome: audit.Done,
		Actor: audit.Actor{Kind: "agent", ID: c.AgentID, Serial: fmt.Sprintf("%x", f.randomly[:16]), Address: fmt.Sprintf("10.%d.%d.%d:%d", i>>16&255, i>>8&255, i&255, 32768+i*7%28000)},
		Detail: map[string]any{
			"intent": c.Intent, "generation": c.Generation, "serial": c.Serial.String(), "fingerprint": c.Fingerprint.String(), "names": []string{c.Names},
			"rule": c.Rule, "notAfter": c.NotAfter.Format(time.RFC3339), "authority": c.AuthorityID,
		},
	}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }
