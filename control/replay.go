package control

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// verbRevokedAgain is of a revocation that a restore makes again.
const verbRevokedAgain = "certificate.revoked-again"

// entryOf is an entry of the log that the store has lost.
type entryOf = audit.Entry

// weighLists finds the revocations that a list of ours has and the store has
// not, and the numbers that the next lists must pass.
func (r *recovery) weighLists() error {
	for _, list := range r.lists {
		by := r.signers.ofList(list)
		if by == nil {
			r.strangeCRLs++
			continue
		}
		if shard, ok := ca.ShardOf(list); ok && list.Number != nil && list.Number.IsInt64() {
			key := listOf{by.ID, shard}
			r.numbers[key] = max(r.numbers[key], list.Number.Int64())
		}
		for _, entry := range list.RevokedCertificateEntries {
			var serial pki.Serial
			if entry.SerialNumber.Sign() <= 0 || entry.SerialNumber.BitLen() > 127 {
				continue
			}
			entry.SerialNumber.FillBytes(serial[:])
			if err := r.note(serial, revoked{authority: by.ID, reason: ca.ReasonOf(entry.ReasonCode), from: "crl", notAfter: by.cert.NotAfter}); err != nil {
				return err
			}
		}
	}
	return nil
}

// note keeps a revocation that the store does not have.
func (r *recovery) note(serial pki.Serial, one revoked) error {
	if before, ok := r.revoked[serial]; ok && (before.reason != store.OnHold || one.reason == store.OnHold) {
		return nil
	}
	record, err := r.tx.Certificate(r.ctx, serial)
	switch {
	case err == nil && !record.RevokedAt.IsZero() && (record.Reason != store.OnHold || one.reason == store.OnHold):
		return nil
	case fault.CodeOf(err) == fault.NotFound:
		if archived, err := r.tx.IsArchived(r.ctx, serial); err != nil || archived {
			return err // it ended long ago, and is on no list of today
		}
		one.unrecorded = !slices.ContainsFunc(r.fresh, func(c store.Certificate) bool { return c.Serial == serial })
		if one.authority == "" && one.unrecorded {
			return nil // of which nothing is known: not even whose list it belongs on
		}
	case err != nil:
		return err
	}
	if !one.unrecorded && one.authority == "" {
		one.authority = record.AuthorityID
	}
	r.revoked[serial] = one
	return nil
}

// weighEntries replays, in the log's order, what the lost entries say of
// revocations and of numbers that were used.
func (r *recovery) weighEntries() error {
	issued := map[pki.Serial]revoked{} // what is known of certificates that are nowhere
	for _, entry := range r.entries {
		if entry.Outcome != audit.Done {
			continue
		}
		serial, named := serialIn(entry.Detail, "serial")
		switch entry.Verb {
		case "issue":
			placement, ok := strings.CutPrefix(entry.Object, "Placement/")
			if generation := numberIn(entry.Detail, "generation"); ok && generation <= maxGeneration {
				r.last[placement] = max(r.last[placement], generation)
			}
		case "agent.retire":
			r.retired = append(r.retired, strings.TrimPrefix(entry.Object, "Agent/"))
		case "compromise.begin", "compromise.contained", "compromise.recovered", "compromise.end":
			if err := r.noteCompromise(entry); err != nil {
				return err
			}
		}
		if authority, _ := entry.Detail["authority"].(string); named && authority != "" {
			at, _ := time.Parse(time.RFC3339, textIn(entry.Detail, "notAfter"))
			issued[serial] = revoked{authority: authority, notAfter: at}
		}
		if entry.Verb == "revoke.lift" && named && r.revoked[serial].reason == store.OnHold {
			delete(r.revoked, serial)
		}
		for _, one := range revokedBy(entry) {
			what := issued[one]
			what.reason, what.from = reasonIn(entry), "entry"
			if err := r.note(one, what); err != nil {
				return err
			}
		}
	}
	return nil
}

// fallen is a compromise as the lost entries tell of it.
type fallen struct {
	id, object, note     string
	begunAt              time.Time
	rehearsal            bool
	contained, recovered bool
}

// noteCompromise keeps which compromises began in what the store lost and were
// not over there. One that the store knows goes on by itself.
func (r *recovery) noteCompromise(entry audit.Entry) error {
	id := textIn(entry.Detail, "compromise")
	at := slices.IndexFunc(r.fallen, func(one fallen) bool { return one.id == id })
	switch {
	case entry.Verb == "compromise.begin" && at < 0:
		_, err := r.tx.Compromise(r.ctx, id)
		if fault.CodeOf(err) != fault.NotFound || err == nil {
			return err
		}
		rehearsal, _ := entry.Detail["rehearsal"].(bool)
		r.fallen = append(r.fallen, fallen{id: id, object: entry.Object, note: textIn(entry.Detail, "note"), begunAt: entry.Time, rehearsal: rehearsal})
		return nil
	case at < 0:
		return nil
	case entry.Verb == "compromise.contained":
		r.fallen[at].contained = true
	case entry.Verb == "compromise.recovered":
		r.fallen[at].recovered = true
	}
	if one := r.fallen[at]; entry.Verb == "compromise.end" || one.contained && one.recovered {
		r.fallen = slices.Delete(r.fallen, at, at+1)
	}
	return nil
}

// words say what becomes of it: what it revoked is revoked again, but nobody
// waits for new keys, ends sessions or moves trust for it any more.
func (f fallen) words() string {
	kind, name, _ := strings.Cut(f.object, "/")
	what := "compromise"
	if f.rehearsal {
		what = "rehearsal of a compromise"
	}
	subject := fmt.Sprintf("%.40s %.100q", strings.ToLower(kind), name)
	return fmt.Sprintf("%s of %s, begun at %s (%s), was not over and is not brought back: what it revoked is revoked again, its waves, sessions and moves of trust are not taken up; begin it anew: rotunda compromise %s --go",
		what, subject, f.begunAt.Format(time.RFC3339), printable(f.note), subject)
}

// revokedBy are the certificates that an entry says were revoked.
func revokedBy(entry audit.Entry) []pki.Serial {
	switch entry.Verb {
	case "credential.end", "certificate.revoke", verbRevokedAgain:
	default:
		return nil
	}
	var all []pki.Serial
	if one, ok := serialIn(entry.Detail, "serial"); ok {
		all = append(all, one)
	}
	list, _ := entry.Detail["serials"].([]any)
	for _, element := range list {
		text, _ := element.(string)
		if one, err := pki.ParseSerial(text); err == nil {
			all = append(all, one)
		}
	}
	return all
}

func reasonIn(entry audit.Entry) string {
	if reason := textIn(entry.Detail, "reason"); ca.IsReason(reason) {
		return reason
	}
	return superseded
}

func textIn(detail map[string]any, key string) string {
	text, _ := detail[key].(string)
	return text
}

func serialIn(detail map[string]any, key string) (pki.Serial, bool) {
	serial, err := pki.ParseSerial(textIn(detail, key))
	return serial, err == nil
}

// applyLists lets the next lists pass those that were published.
func (r *recovery) applyLists() error {
	for key, number := range r.numbers {
		if err := r.tx.RaiseCRL(r.ctx, key.authority, key.number, number); err != nil {
			return err
		}
	}
	return nil
}

// applyRevocations revokes again what was revoked. A certificate that is nowhere
// to be had gets a record of its serial alone, so that its list goes on to name
// it and whoever holds it finds it revoked.
func (r *recovery) applyRevocations(caller Caller) (int, error) {
	for _, serial := range slices.SortedFunc(maps.Keys(r.revoked), func(a, b pki.Serial) int { return bytes.Compare(a[:], b[:]) }) {
		one := r.revoked[serial]
		if one.unrecorded {
			if err := r.tx.InsertCertificates(r.ctx, tombstone(serial, one)); err != nil {
				return 0, err
			}
		}
		if err := r.tx.RevokeCertificate(r.ctx, serial, one.reason); err != nil {
			return 0, err
		}
		_, err := done(r.ctx, r.tx, caller, verbRevokedAgain, "Certificate/"+serial.String(), map[string]any{
			"serial": serial.String(), "reason": one.reason, "from": one.from, "unrecorded": one.unrecorded, "authority": one.authority,
		})
		if err != nil {
			return 0, err
		}
	}
	ended := 0
	for _, id := range r.retired {
		agent, err := r.tx.Agent(r.ctx, id)
		if fault.CodeOf(err) == fault.NotFound || err == nil && agent.State != fleet.AgentActive {
			continue
		}
		if err != nil {
			return 0, err
		}
		if err := r.c.retire(r.ctx, r.tx, caller, agent); err != nil {
			return 0, err
		}
		if _, err := done(r.ctx, r.tx, caller, "agent.retire", "Agent/"+id, map[string]any{"reason": "it was retired in what the store lost"}); err != nil {
			return 0, err
		}
		ended++
	}
	return len(r.revoked) + ended, nil
}

func tombstone(serial pki.Serial, one revoked) store.Certificate {
	return store.Certificate{
		Serial: serial, Kind: store.KindLeaf, AuthorityID: one.authority, CRLShard: int(serial.Shard()),
		NotBefore: serial.Time(), NotAfter: one.notAfter.UTC(), IssuedAt: serial.Time(), DER: []byte{},
	}
}

// ofList is the authority that signed the list, or nil.
func (all ownedSigners) ofList(list *x509.RevocationList) *ownedSigner {
	for i := range all {
		if list.CheckSignatureFrom(all[i].cert) == nil {
			return &all[i]
		}
	}
	return nil
}

func numberIn(detail map[string]any, key string) uint64 {
	n, _ := detail[key].(float64)
	return uint64(max(n, 0))
}
