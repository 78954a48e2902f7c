package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
)

// outsiders are witnesses of whom agent.yaml names all but the last.
type outsiders []audit.CosigningKey

func newOutsiders(t testing.TB, names ...string) (all outsiders) {
	t.Helper()
	for _, name := range names {
		key, err := audit.NewCosigningKey("witness.example/" + name)
		check(t, err)
		all = append(all, key)
	}
	return all
}

func (o outsiders) required(n int) WitnessesConfig {
	c := WitnessesConfig{Required: n}
	for _, key := range o[:len(o)-1] {
		c.Keys = append(c.Keys, key.Cosigner().VerifierKey())
	}
	return c
}

// cosign is a signed checkpoint with the lines of witnesses below it.
func cosign(t testing.TB, log *planeLog, signed []byte, by ...audit.CosigningKey) []byte {
	t.Helper()
	cp := audit.Checkpoint{Origin: audit.OriginOf(signed), Size: log.Size(), Root: log.Root()}
	signed = bytes.Clone(signed)
	for _, key := range by {
		signed = append(signed, key.Cosign(cp, time.Now())...)
	}
	return signed
}

// watcher is the witness of an agent without the agent: a log, servers and a
// clock at the test's word.
type watcher struct {
	*logWitness
	t      *testing.T
	p      *plane
	root   *os.Root
	clock  time.Time
	open   bool
	opened uint64
	proves error
}

func newWatcher(t *testing.T, config WitnessesConfig) *watcher {
	b := &watcher{t: t, p: newPlane(t), root: mustRoot(t, t.TempDir()), clock: time.Now(), open: true}
	b.start(config)
	return b
}

// start is the start of an agent on what lies in the directory.
func (b *watcher) start(config WitnessesConfig) {
	b.t.Helper()
	seen, err := openWitness(b.root, b.p.logKey, audit.Origin(b.p.domain.Name()))
	check(b.t, err)
	demand, err := newDemand(config, b.root, seen, 10*time.Minute, b.clock)
	check(b.t, err)
	b.logWitness = &logWitness{
		seen: seen, demand: demand, alarms: newAlarms(), log: slog.New(slog.DiscardHandler), now: func() time.Time { return b.clock },
		online: func() bool { return b.open }, streams: func() uint64 { return b.opened },
		prove: func(_ context.Context, from, to uint64) ([]audit.Hash, error) {
			if b.proves != nil {
				return nil, b.proves
			}
			return audit.ProveConsistency(from, to, audit.TileReader(b.p.log.ReadTile))
		},
	}
}

// grow grows the log, and returns its checkpoint.
func (b *watcher) grow(entries ...string) []byte {
	b.t.Helper()
	b.p.log.grow(b.t, entries...)
	return b.p.checkpoint()
}

func (b *watcher) shows(newest, cosigned []byte) bool {
	return b.advance(b.t.Context(), checkpoints{newest, cosigned})
}

// after lets time pass and says what is alarming then.
func (b *watcher) after(pause time.Duration) string {
	b.clock = b.clock.Add(pause)
	b.showCosigned()
	return b.alarms.text()
}

// Within the time that it has, what was shown is cosigned by as many as are
// required: as it is, in a later checkpoint, or by each in another one.
func TestWhatCountsAsCosigned(t *testing.T) {
	all := newOutsiders(t, "w1", "w2", "w3", "stranger")
	for name, show := range map[string]func(*watcher){
		"itself": func(b *watcher) {
			newest := b.grow("one")
			b.shows(newest, nil)
			b.shows(newest, cosign(b.t, b.p.log, newest, all[0], all[1]))
		},
		"with lines of strangers": func(b *watcher) {
			newest := b.grow("one")
			b.shows(newest, cosign(b.t, b.p.log, newest, all[3], all[2], all[1]))
		},
		"a later one, before it is shown": func(b *watcher) {
			b.shows(b.grow("one"), nil)
			later := b.grow("two")
			b.shows(nil, cosign(b.t, b.p.log, later, all[0], all[1]))
		},
		"by each in another one": func(b *watcher) {
			b.shows(b.grow("one"), nil)
			one := b.grow("two")
			b.shows(one, cosign(b.t, b.p.log, one, all[0]))
			two := b.grow("three")
			b.shows(two, cosign(b.t, b.p.log, two, all[2]))
		},
		"once the proof can be had": func(b *watcher) {
			newest := b.grow("one")
			b.shows(newest, nil)
			later := cosign(b.t, b.p.log, b.grow("two"), all[0], all[1])
			b.proves = errors.New("later")
			if b.shows(nil, later) {
				b.t.Error("what was not proven is not tried again")
			}
			b.proves = nil
			b.shows(nil, later)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newWatcher(t, all.required(2))
			show(b)
			if got := b.demand.status(0).Cosigned; got < 2 {
				t.Errorf("%d entries are cosigned, want the 2 that were shown", got)
			}
		})
	}
}

// Whatever else a server shows, after ten minutes it is an alarm that says who is
// missing; what is cosigned at last ends it.
func TestWhatDoesNotCountAsCosigned(t *testing.T) {
	all := newOutsiders(t, "w1", "w2", "w3", "stranger")
	for name, c := range map[string]struct {
		show func(b *watcher, newest []byte) []byte
		want string
	}{
		"nothing":    {func(*watcher, []byte) []byte { return nil }, "has 0 of the 2 cosignatures"},
		"nobody's":   {func(_ *watcher, newest []byte) []byte { return newest }, "missing: witness.example/w1, witness.example/w2, witness.example/w3"},
		"one of two": {func(b *watcher, newest []byte) []byte { return cosign(b.t, b.p.log, newest, all[1]) }, "has 1 of the 2 cosignatures that agent.yaml requires; missing: witness.example/w1, witness.example/w3"},
		"one twice":  {func(b *watcher, newest []byte) []byte { return cosign(b.t, b.p.log, newest, all[0], all[0]) }, "has 1 of the 2"},
		"strangers'": {func(b *watcher, newest []byte) []byte { return cosign(b.t, b.p.log, newest, all[3], all[0]) }, "has 1 of the 2"},
		"lines of another checkpoint": {func(b *watcher, newest []byte) []byte {
			older := newPlaneLog()
			older.grow(b.t, "init")
			return cosign(b.t, older, newest, all[0], all[1])
		}, "has 0 of the 2"},
		"an older checkpoint": {func(b *watcher, _ []byte) []byte {
			log := b.p.log
			defer func() { b.p.log = log }()
			b.p.log = newPlaneLog()
			return cosign(b.t, b.p.log, b.grow("init"), all[0], all[1])
		}, "has 0 of the 2"},
		"by another log's key": {func(b *watcher, newest []byte) []byte {
			signer := b.p.logSigner
			defer func() { b.p.logSigner = signer }()
			b.p.logSigner = strangeLogKey(b.t)
			return cosign(b.t, b.p.log, b.p.checkpoint(), all[0], all[1])
		}, "has 0 of the 2"},
		"a longer log, of which nothing proves that it begins with this one": {func(b *watcher, _ []byte) []byte {
			log := b.p.log
			defer func() { b.p.log = log }()
			b.p.log = newPlaneLog()
			b.proves = errors.New("the log is not that long")
			return cosign(b.t, b.p.log, b.grow("init", "one", "two"), all[0], all[1])
		}, "has 0 of the 2"},
		"another log of that size": {func(b *watcher, _ []byte) []byte {
			log := b.p.log
			defer func() { b.p.log = log }()
			b.p.log = newPlaneLog()
			return cosign(b.t, b.p.log, b.grow("init", "ONE"), all[0], all[1])
		}, "audit log forked"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newWatcher(t, all.required(2))
			newest := b.grow("one")
			b.shows(newest, nil)
			cosigned := c.show(b, newest)
			b.shows(newest, cosigned)
			b.shows(newest, cosigned)
			if text := b.after(9 * time.Minute); strings.Contains(text, "cosignatures") {
				t.Errorf("after nine minutes: %s", text)
			}
			if text := b.after(time.Minute); !strings.Contains(text, c.want) || !strings.Contains(text, "the checkpoint of 2 entries that was shown at ") {
				t.Errorf("after ten minutes: %s", text)
			}
			b.proves = nil
			b.shows(newest, cosign(t, b.p.log, newest, all[0], all[2]))
			if text := b.after(0); (b.seen.Fork() == nil) != (text == "") {
				t.Errorf("it is cosigned: %s", text)
			}
		})
	}
}

// While no server is there, nobody can show what witnesses cosigned, so that time
// does not count. A server that opens and closes streams in turn gains none by
// it, nor does who sets the clock back.
func TestTimeThatCounts(t *testing.T) {
	b := newWatcher(t, newOutsiders(t, "w1", "stranger").required(1))
	b.shows(b.grow("one"), nil)
	b.open = false
	for range 100 {
		if text := b.after(time.Minute); text != "" {
			t.Fatalf("no server was there: %s", text)
		}
	}
	b.opened++
	b.after(-time.Hour)
	for range 9 {
		b.opened++
		if text := b.after(time.Minute); text != "" {
			t.Fatalf("too early: %s", text)
		}
	}
	b.opened++
	if text := b.after(time.Minute); !strings.Contains(text, "missing: witness.example/w1") {
		t.Error("a server that comes and goes is waited for longer")
	}
}

// What comes while a checkpoint is awaited is awaited after it: cosigning old
// ones for ever keeps nobody quiet.
func TestEachIsAwaitedInItsTurn(t *testing.T) {
	all := newOutsiders(t, "w1", "stranger")
	b := newWatcher(t, all.required(1))
	first := b.grow("one")
	cosigned, again := cosign(t, b.p.log, first, all[0]), cosign(t, b.p.log, first, all[0], all[1])
	b.shows(first, nil)
	b.after(8 * time.Minute)
	newest := b.grow("two")
	b.shows(newest, cosigned)
	if text := b.after(9 * time.Minute); text != "" {
		t.Errorf("the second was not shown for ten minutes: %s", text)
	}
	b.proves = errors.New("it is asked for")
	if !b.shows(newest, again) {
		t.Error("the server is asked for a proof of what is awaited no more")
	}
	if text := b.after(time.Minute); !strings.Contains(text, "the checkpoint of 3 entries") {
		t.Errorf("the second: %s", text)
	}
}

// The alarm is in the directory before anybody hears of it: a restart, with
// what servers say or without, does not end it. Another agent.yaml does.
func TestOverdueStaysOverRestarts(t *testing.T) {
	all := newOutsiders(t, "w1", "stranger")
	b := newWatcher(t, all.required(1))
	newest := b.grow("one")
	b.shows(newest, nil)
	b.after(10 * time.Minute)
	for _, content := range []string{`{"size":7}`, "damaged", ""} {
		b.open = false
		b.start(all.required(1))
		if text := b.after(0); !strings.Contains(text, "the checkpoint of 2 entries") || !b.demand.status(2).Overdue {
			t.Fatalf("after a restart: %q", text)
		}
		check(t, b.root.WriteFile(uncosignedFile, []byte(content), 0o600))
	}
	b.open = true
	b.start(all.required(1))
	b.shows(newest, cosign(t, b.p.log, newest, all[0]))
	if _, err := b.root.Stat(uncosignedFile); err == nil || b.after(0) != "" {
		t.Errorf("it is cosigned: %s, %v", b.alarms.text(), err)
	}
	b.shows(b.grow("two"), nil)
	b.after(10 * time.Minute)
	b.start(WitnessesConfig{})
	if _, err := b.root.Stat(uncosignedFile); err == nil || b.demand != nil {
		t.Error("nothing is demanded any more, and the alarm is kept")
	}
}

// Where the log went on from an older copy, what was cosigned of the other one
// counts for nothing, though it is of more entries; not even when it was proven
// just before.
func TestTurnForgetsCosignatures(t *testing.T) {
	all := newOutsiders(t, "w1", "stranger")
	b := newWatcher(t, all.required(1))
	newest := b.grow("one", "two", "three", "four")
	signed := cosign(t, b.p.log, newest, all[0])
	b.shows(newest, nil)
	cp, by, turns, err := b.demand.find(signed)
	if err != nil || len(by) != 1 {
		t.Fatalf("%v, %v", by, err)
	}
	b.demand.turn(2, b.clock)
	b.demand.count(signed, cp.Size, by, turns)
	if text := b.after(10 * time.Minute); !strings.Contains(text, "the checkpoint of 2 entries") {
		t.Errorf("the other log's cosignature counts: %q", text)
	}
	c := newWatcher(t, all.required(1))
	newest = c.grow("one", "two", "three", "four")
	c.shows(newest, cosign(t, c.p.log, newest, all[0]))
	c.demand.turn(2, c.clock)
	if text := c.after(10 * time.Minute); !strings.Contains(text, "the checkpoint of 2 entries") {
		t.Errorf("what was cosigned before counts: %q", text)
	}
}

// The agent as a whole, over a stream: the alarm goes with its reports, in its
// status and on its disk, and a server that sends nothing more does not end it.
func TestUncosignedLogIsAnAlarmThatStays(t *testing.T) {
	p, all := newPlane(t), newOutsiders(t, "w1", "w2", "w3", "stranger")
	address, stop := p.serve(t, "127.0.0.1:0")
	config := configFor(t.TempDir(), address)
	config.Witnesses = all.required(2)
	a := start(t, config, p.token(""))
	a.isReady(t)
	p.report(t, "of all that is missing", func(r *api.AgentReport) bool {
		return strings.Contains(r.Alarm, "0 of the 2 cosignatures that agent.yaml requires; missing: witness.example/w1, witness.example/w2, witness.example/w3")
	})
	shown := p.checkpoint()
	p.push(func(d *api.DesiredState) { d.Cosigned = cosign(t, p.log, shown, all[1], all[3]) })
	p.report(t, "of what is missing still", func(r *api.AgentReport) bool {
		return strings.Contains(r.Alarm, "1 of the 2") && !strings.Contains(r.Alarm, "w2")
	})
	if !slices.Contains(a.alarms.kinds(), alarmCosigned) {
		t.Errorf("alarms %v", a.alarms.kinds())
	}
	a.stop(t)
	stop() // and no server is there any more
	b := start(t, config, "")
	b.isReady(t)
	var status Status
	var err error
	waitFor(t, "its socket", func() bool {
		status, err = AskStatus(t.Context(), config.Socket)
		return err == nil
	})
	if status.Witnesses == nil || !status.Witnesses.Overdue || status.Witnesses.Awaited != 1 || !strings.Contains(status.Alarms, "0 of the 2") {
		t.Errorf("status %+v", status)
	}
	p.push(func(d *api.DesiredState) { d.Cosigned = cosign(t, p.log, shown, all[0], all[1]) })
	p.serve(t, address)
	p.report(t, "without alarm", func(r *api.AgentReport) bool { return r.Hello == nil && r.Alarm == "" })
	status, err = AskStatus(t.Context(), config.Socket)
	if got := status.Witnesses; err != nil || got.Cosigned != 1 || got.Shown != 1 || got.Awaited != 0 || got.Witnesses[2].Cosigned != 0 || got.Witnesses[1].Cosigned != 1 {
		t.Errorf("status %+v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(config.State, uncosignedFile)); err == nil {
		t.Error("the alarm lies on the disk still")
	}
}
