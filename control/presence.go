package control

import (
	"strings"
	"sync"
	"time"
)

// watchers wakes the streams of agents and of operators after something that
// they show has changed. A wake-up says only "look again": the store is the
// truth, so a lost or doubled one does no harm.
type watchers struct {
	mu     sync.Mutex
	agents map[string]map[chan struct{}]struct{}
	all    map[chan struct{}]struct{}
	trust  map[chan struct{}]struct{}
	tell   func(note string) // tells other servers of this store; nil: nobody
}

// WatchAgent returns a channel that gets a token after a change that may
// matter to the agent, and a func to end the watch.
func (c *Control) WatchAgent(id string) (wake <-chan struct{}, stop func()) {
	w := &c.watchers
	channel := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.agents == nil {
		w.agents = map[string]map[chan struct{}]struct{}{}
	}
	if w.agents[id] == nil {
		w.agents[id] = map[chan struct{}]struct{}{}
	}
	w.agents[id][channel] = struct{}{}
	return channel, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.agents[id], channel)
		if len(w.agents[id]) == 0 {
			delete(w.agents, id)
		}
	}
}

// WatchTrust returns a channel that gets a token after another authority signs
// or another bundle is believed, and a func to end the watch.
func (c *Control) WatchTrust() (wake <-chan struct{}, stop func()) {
	w := &c.watchers
	return w.join(&w.trust)
}

// join adds a watcher to those of a set.
func (w *watchers) join(set *map[chan struct{}]struct{}) (wake <-chan struct{}, stop func()) {
	channel := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if *set == nil {
		*set = map[chan struct{}]struct{}{}
	}
	(*set)[channel] = struct{}{}
	return channel, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(*set, channel)
	}
}

// Watch returns a channel that gets a token after any change of what
// operators see, and a func to end the watch.
func (c *Control) Watch() (wake <-chan struct{}, stop func()) {
	w := &c.watchers
	return w.join(&w.all)
}

// wakeTrust wakes those that show or believe what a change of trust changed,
// and everybody else.
func (w *watchers) wakeTrust() {
	w.wake(w.everybody, true)
	w.told(noteTrust)
}

// wakeAgents wakes the streams of the agents named, and every operator's.
func (w *watchers) wakeAgents(ids ...string) {
	w.wake(w.named(ids...), false)
	note := strings.TrimSpace(noteAgents + " " + strings.Join(ids, " "))
	if len(ids) > toldAtOnce {
		note = noteEvery
	}
	w.told(note)
}

// wakeEverybody is for what may concern any agent: documents, bundles.
func (w *watchers) wakeEverybody() {
	w.wake(w.everybody, false)
	w.told(noteEvery)
}

// wakeSome wakes the streams of some agents that are connected here, others each
// time, and every operator's. Other servers see to theirs.
func (w *watchers) wakeSome(most int) {
	w.wake(func() {
		left := most
		for _, channels := range w.agents {
			if left--; left < 0 {
				return
			}
			signal(channels)
		}
	}, false)
}

// told tells the other servers whom to wake.
func (w *watchers) told(note string) {
	if w.tell != nil {
		w.tell(note)
	}
}

// wake wakes what agents gives it, the operators' streams and perhaps those who
// follow trust.
func (w *watchers) wake(agents func(), trust bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if trust {
		signal(w.trust)
	}
	agents()
	signal(w.all)
}

func (w *watchers) everybody() {
	for _, channels := range w.agents {
		signal(channels)
	}
}

func (w *watchers) named(ids ...string) func() {
	return func() {
		for _, id := range ids {
			signal(w.agents[id])
		}
	}
}

func signal(channels map[chan struct{}]struct{}) {
	for channel := range channels {
		select {
		case channel <- struct{}{}:
		default: // one is waiting already
		}
	}
}

// presence is what is known of connected agents and need not outlive the
// process.
type presence struct {
	mu     sync.Mutex
	agents map[string]present
}

type present struct {
	boot     uint64        // of the newest stream
	replaced chan struct{} // closed when a newer one takes its place
	offset   time.Duration // agent's clock minus ours
	alarm    string
	serial   string    // of the certificate that the stream was opened with
	heard    time.Time // when it said something last
	written  time.Time // when the store was last told that it is there
	said     uint64    // of the newest full report: see saidBefore
}

// join makes the stream with this boot counter the agent's, and ends an older
// one. Of two that join at once the higher stays.
func (p *presence) join(id string, boot uint64, serial string, now time.Time) (replaced <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.agents == nil {
		p.agents = map[string]present{}
	}
	joined := present{boot: boot, serial: serial, heard: now, written: now, replaced: make(chan struct{})}
	before, connected := p.agents[id]
	switch {
	case connected && before.boot > boot:
		close(joined.replaced)
		return joined.replaced
	case connected:
		close(before.replaced)
	}
	p.agents[id] = joined
	return joined.replaced
}

// leave ends the stream with this boot counter, unless a newer one has
// replaced it.
func (p *presence) leave(id string, boot uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.agents[id].boot == boot {
		delete(p.agents, id)
	}
}

// note keeps what an agent says of itself, and returns what it said before.
func (p *presence) note(id string, offset time.Duration, alarm string, now time.Time) (before string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry, connected := p.agents[id]
	if connected {
		before = entry.alarm
		entry.offset, entry.alarm, entry.heard = offset, alarm, now
		p.agents[id] = entry
	}
	return before
}

// due are those who have said something since the store was told of them, long ago.
func (p *presence) due(now time.Time) (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, entry := range p.agents {
		if since := now.Sub(entry.written); entry.heard.After(entry.written) && (since < 0 || since >= presenceWriteEvery) {
			ids = append(ids, id)
		}
	}
	return ids
}

// wrote notes that the store was told of agents.
func (p *presence) wrote(now time.Time, ids ...string) {
	p.change(func(entry *present) { entry.written = now }, ids...)
}

// change changes what is known of agents, those that are connected here.
func (p *presence) change(by func(*present), ids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if entry, connected := p.agents[id]; connected {
			by(&entry)
			p.agents[id] = entry
		}
	}
}

// alarms are what the agents raise that are connected here, by agent.
func (p *presence) alarms() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	raised := map[string]string{}
	for id, entry := range p.agents {
		if entry.alarm != "" {
			raised[id] = entry.alarm
		}
	}
	return raised
}

// overtaken ends a stream whose agent has opened a newer one elsewhere.
func (p *presence) overtaken(id string, newest uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if entry, connected := p.agents[id]; connected && entry.boot < newest {
		close(entry.replaced)
		delete(p.agents, id)
	}
}

func (p *presence) of(id string) (present, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry, ok := p.agents[id]
	return entry, ok
}

func (p *presence) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.agents)
}

func (p *presence) offsets() map[string]time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	offsets := make(map[string]time.Duration, len(p.agents))
	for id, entry := range p.agents {
		offsets[id] = entry.offset
	}
	return offsets
}
