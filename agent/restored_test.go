package agent

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
)

// restoreEntry is the entry by which a log goes on in an epoch.
func restoreEntry(t testing.TB, epoch uint64) []byte {
	t.Helper()
	fact := audit.Checkpoint{Size: 1}.Fact()
	content, err := audit.Entry{
		ID: "01890a5d-ac96-774b-bcce-b302099a8057", Time: time.Now(), Actor: audit.Actor{Kind: "socket"}, Verb: audit.VerbRestored,
		Object: "Store/example.org", Outcome: audit.Done,
		Detail: map[string]any{"epoch": epoch, "kept": fact, "seen": fact, "reason": "disk failed"},
	}.Encode()
	check(t, err)
	return content
}

// restored is the proof that the newest entry of the log is that one.
func (p *plane) restored(t testing.TB, entry []byte) *api.Restored {
	t.Helper()
	proof, err := audit.ProveInclusion(p.log.Size()-1, p.log.Size(), audit.TileReader(p.log.ReadTile))
	check(t, err)
	shown := &api.Restored{Entry: entry, Index: p.log.Size() - 1}
	for _, hash := range proof {
		shown.Proof = append(shown.Proof, hash[:])
	}
	return shown
}

// An epoch is believed only with its restore, in the log whose key is pinned.
// The witness goes over to that log, and says so until somebody on this host
// ends it.
func TestEpochIsTakenWithItsRestoreAlone(t *testing.T) {
	p := newPlane(t)
	a, config := enrolled(t, p)
	p.set(func() { p.log.grow(t, "one", "two", "three") })
	p.push(func(*api.DesiredState) {})
	waitFor(t, "the witness", func() bool { return a.syncer.witness.seen.Size() == 4 })
	entry, other := restoreEntry(t, 2), restoreEntry(t, 3)
	p.set(func() { // back to the first entry, and on from there
		p.log = newPlaneLog()
		p.log.grow(t, "init", "another", string(entry))
	})
	refuse := func(name, words string, shown *api.Restored) {
		t.Helper()
		p.push(func(d *api.DesiredState) { d.Epoch, d.Restored = 2, shown })
		p.report(t, name, func(r *api.AgentReport) bool { return strings.Contains(r.Alarm, words) && r.Epoch == 1 })
	}
	refuse("of an epoch out of nowhere", "does not show by which restore", nil)
	good := p.restored(t, entry)
	wrong := p.restored(t, entry)
	wrong.Entry = other
	refuse("of another epoch's restore", "began epoch 3", wrong)
	moved := p.restored(t, entry)
	moved.Index = 1
	refuse("of an entry that is not in the log", "is not the one that the checkpoint", moved)
	signer := p.logSigner
	p.set(func() { p.logSigner = strangeLogKey(t) })
	refuse("of a log by another key", "checkpoint of", good)
	p.set(func() { p.logSigner = signer })
	if size := a.syncer.witness.seen.Size(); size != 4 {
		t.Errorf("what was refused moved the witness to %d", size)
	}

	p.push(func(d *api.DesiredState) { d.Epoch, d.Restored = 2, good })
	taken := func(r *api.AgentReport) bool {
		return r.Epoch == 2 && strings.Contains(r.Alarm, "the store was restored (disk failed): it goes on in epoch 2")
	}
	p.report(t, "in the new epoch, with an alarm", taken)
	a.stop(t)
	b := start(t, config, "")
	b.isReady(t)
	p.report(t, "of the same after a restart", taken)
	if turns := b.syncer.witness.seen.Turns(); len(turns) != 1 || !strings.Contains(string(turns[0].Seen), "\n4\n") {
		t.Errorf("what was seen before is not kept: %v", turns)
	}
	p.set(func() { p.log.grow(t, "four") }) // it goes on as a witness
	p.push(func(d *api.DesiredState) { d.Restored = good })
	waitFor(t, "the new log", func() bool { return b.syncer.witness.seen.Size() == 4 })
	check(t, Acknowledge(config, time.Now()))
	b.stop(t)
	c := start(t, config, "")
	c.isReady(t)
	p.report(t, "without an alarm once acknowledged", func(r *api.AgentReport) bool { return r.Epoch == 2 && r.Alarm == "" })
	if err := Acknowledge(config, time.Now()); err == nil {
		t.Error("acknowledged twice")
	}
}

// A fork that a restore explains goes over into its alarm; one that nothing
// explains stays.
func TestRestoreExplainsAFork(t *testing.T) {
	p := newPlane(t)
	a, config := enrolled(t, p)
	p.set(func() { p.log.grow(t, "one", "two") })
	p.push(func(*api.DesiredState) {})
	waitFor(t, "the witness", func() bool { return a.syncer.witness.seen.Size() == 3 })
	entry := restoreEntry(t, 2)
	p.set(func() {
		p.log = newPlaneLog()
		p.log.grow(t, "init", "ONE", "TWO", "THREE")
	})
	p.push(func(*api.DesiredState) {})
	p.report(t, "of the fork", func(r *api.AgentReport) bool { return strings.Contains(r.Alarm, "audit log forked") })
	p.set(func() { p.log.grow(t, string(entry)) })
	shown := p.restored(t, entry)
	p.push(func(d *api.DesiredState) { d.Epoch, d.Restored = 2, shown })
	p.report(t, "of the restore", func(r *api.AgentReport) bool {
		return r.Epoch == 2 && strings.Contains(r.Alarm, "restored") && !strings.Contains(r.Alarm, "forked")
	})
	a.stop(t)
	b := start(t, config, "")
	b.isReady(t)
	if turns := b.syncer.witness.seen.Turns(); len(turns) != 1 || turns[0].Conflict == nil || b.syncer.witness.seen.Fork() != nil {
		t.Errorf("the fork is not kept with the restore: %v", turns)
	}
}

func strangeLogKey(t testing.TB) note.Signer {
	t.Helper()
	skey, _, err := audit.NewLogKey(audit.Origin("example.org"))
	check(t, err)
	signer, err := note.NewSigner(skey)
	check(t, err)
	return signer
}
