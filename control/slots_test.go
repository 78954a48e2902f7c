package control

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

const clusterDocuments = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: db}
spec: {owner: {team: shop, contact: shop@test.example, runbook: "https://test.example/db"}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: member}
spec: {lifetime: 24h, usages: [serverAuth, clientAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: names}
spec: {rules: [{name: own, effect: allow, when: 'service == "db"'}]}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: db}
spec:
  service: db
  selector: {role: db}
  profile: member
  identity: {dnsNames: ["{{ labels.host }}.db.test.example"]}
  target: {kind: etcd, name: etcd, cluster: CLUSTER, maxUnavailable: MOST, address: "127.0.0.1:2379", clientAuth: required, restartCommand: restart-etcd}
  files: {directory: /srv/db/tls}
`

func clusterOf(cluster string, most int) string {
	return strings.NewReplacer("CLUSTER", cluster, "MOST", fmt.Sprint(most)).Replace(clusterDocuments)
}

// memberHost is a host whose placement is a member of a cluster. It carries
// what a real agent has: the newest desired state, and what it has begun.
type memberHost struct {
	*host
	id   string // of its placement
	took *api.DesiredState
	ask  uint64
	slot string // begun
}

// members are hosts of a cluster, connected and with a certificate.
func (d *domain) members(n int) []*memberHost {
	d.t.Helper()
	var all []*memberHost
	for i := range n {
		m := &memberHost{host: d.enrolHost(map[string]string{"role": "db", "host": fmt.Sprintf("h%d", i)})}
		m.id = m.placement()
		m.holds(1)
		d.connect(m.caller)
		all = append(all, m)
	}
	return all
}

func (d *domain) connect(caller Caller) {
	d.t.Helper()
	boot := uint64(d.clock.now().UnixMicro())
	if _, err := d.Connect(d.t.Context(), caller, &api.Hello{Boot: boot}); err != nil {
		d.t.Fatal(err)
	}
}

// message is what the agent would report now.
func (m *memberHost) message() *api.AgentReport {
	report := &api.PlacementReport{
		PlacementId: m.id, State: api.State_STATE_STEADY, Generation: 1, Revision: 1, Level: api.Level_LEVEL_DELIVERED, SlotId: m.slot,
	}
	if m.slot == "" {
		report.AsksSlot = m.ask
	}
	if m.slot != "" || m.ask != 0 {
		report.State = api.State_STATE_ROTATING
	}
	return &api.AgentReport{Placements: []*api.PlacementReport{report}, DesiredSeq: m.took.GetSeq()}
}

// look takes the newest desired state, and returns the slot in it.
func (m *memberHost) look(c *Control) *api.Slot {
	m.domain.t.Helper()
	state, err := c.Desired(context.Background(), m.caller)
	if err != nil {
		m.domain.t.Fatal(err)
	}
	m.took = state
	return state.Placements[0].Slot
}

func (m *memberHost) tell(c *Control) {
	m.domain.t.Helper()
	if err := c.Report(context.Background(), m.caller, m.message()); err != nil {
		m.domain.t.Fatal(err)
	}
}

// asks reports an ask, and returns the slot where it was granted at once.
func (m *memberHost) asks(revision uint64) *api.Slot {
	m.domain.t.Helper()
	m.ask = revision
	m.tell(m.domain.Control)
	return m.look(m.domain.Control)
}

func (m *memberHost) begins() {
	m.domain.t.Helper()
	m.slot, m.ask = m.look(m.domain.Control).GetId(), 0
	if m.slot == "" {
		m.domain.t.Fatalf("agent %s has no slot to begin with", m.host.id)
	}
	m.tell(m.domain.Control)
}

func (m *memberHost) ends() {
	m.domain.t.Helper()
	m.slot = ""
	m.tell(m.domain.Control)
}

func (d *domain) tend() {
	d.t.Helper()
	if _, err := d.TendSlots(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
}

// states are how the members stand to the slots.
func states(members []*memberHost) (all []string) {
	for _, m := range members {
		all = append(all, m.status().Slot)
	}
	return all
}

func wantStates(t *testing.T, members []*memberHost, want ...string) {
	t.Helper()
	if got := states(members); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("slots %q, want %q", got, want)
	}
}

// Members of a cluster go one by one, the one that asked first in front; each
// is told why it waits, and every move is entered.
func TestClusterMembersGoOneByOne(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(3)
	if !m[0].desired().NeedsSlot || m[0].status().Cluster != "c1" {
		t.Fatalf("a member of a cluster needs no slot: %v", m[0].desired())
	}
	if slot := m[2].asks(7); slot == nil || slot.Revision != 7 || slot.StartWithin.AsDuration() != startWithin {
		t.Fatalf("the first that asks got %v", slot)
	}
	if m[0].asks(4) != nil || m[1].asks(5) != nil {
		t.Fatal("a second one was granted")
	}
	wantStates(t, m, "waits", "waits", "granted")
	m[2].begins()
	want := "cluster c1 has 1 of 1 members away: the one on agent " + m[2].host.id + " holds it since " + d.clock.now().Format("15:04")
	if reason := m[0].status().Reason; !strings.Contains(reason, want) {
		t.Errorf("reason %q, want %q in it", reason, want)
	}
	m[2].tell(d.Control) // said twice
	m[2].ends()
	m[2].tell(d.Control)
	wantStates(t, m, "granted", "waits", "")
	m[0].begins()
	m[0].ends()
	wantStates(t, m, "", "granted", "")
	m[1].begins()
	m[1].ends()
	wantStates(t, m, "", "", "")
	m[1].asks(6)
	for ended, want := range map[bool]string{false: "granted", true: "granted ended ended ended"} {
		list, err := d.ListSlots(t.Context(), operator, &api.ListSlotsRequest{Ended: ended})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, slot := range list.Slots {
			got = append(got, slot.State)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("slots %v, want %s", got, want)
		}
	}
	log := strings.Join(d.entries(), "\n")
	for _, verb := range []string{"slot.granted", "slot.begun", "slot.ended"} {
		want := 3
		if verb == "slot.granted" {
			want = 4
		}
		if n := strings.Count(log, `"`+verb+`"`); n != want {
			t.Errorf("%d entries of %s, want %d", n, verb, want)
		}
	}
}

func TestMaxUnavailable(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 2))
	m := d.members(3)
	for _, one := range m {
		one.asks(2)
	}
	wantStates(t, m, "granted", "granted", "waits")
	d.apply(clusterOf("c1", 3))
	d.tend() // the documents let more go
	wantStates(t, m, "granted", "granted", "granted")
}

// Clusters of their own don't wait for each other.
func TestClustersAreApart(t *testing.T) {
	d := found(t)
	d.apply(clusterOf(`"c-{{ labels.host }}"`, 1))
	m := d.members(2)
	m[0].asks(2)
	m[1].asks(2)
	wantStates(t, m, "granted", "granted")
}

// A slot that was begun is held over any time and over a restart of the server,
// until an operator retires the agent or releases it. Then the next one goes.
func TestTimeEndsNoBegunSlot(t *testing.T) {
	for name, end := range map[string]func(*domain, *memberHost) error{
		"retired": func(d *domain, m *memberHost) error {
			_, err := d.RetireAgent(d.t.Context(), operator, &api.RetireAgentRequest{AgentId: m.host.id})
			return err
		},
		"released": func(d *domain, m *memberHost) error {
			_, err := d.ReleaseSlot(d.t.Context(), operator, &api.ReleaseSlotRequest{Id: m.slot, Reason: "host is gone"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := found(t)
			d.apply(clusterOf("c1", 1))
			m := d.members(2)
			m[0].asks(2)
			m[0].begins()
			m[1].asks(2)
			for range 3 {
				d.clock.turn(24 * time.Hour)
				d.tend()
				d.restart()
				d.connect(m[1].caller)
				d.tend()
				m[1].tell(d.Control)
				wantStates(t, m, "begun", "waits")
			}
			if err := end(d, m[0]); err != nil {
				t.Fatal(err)
			}
			wantStates(t, m[1:], "granted")
			if log := strings.Join(d.entries(), "\n"); !strings.Contains(log, `"slot.release`) {
				t.Error("no entry says who released it")
			}
		})
	}
}

// A grant that was not begun in time is shown no more; but nobody else gets one
// before the agent has said that it knows, however long that takes. What it
// begins until then counts.
func TestGrantIsFreeOnlyWhenItsAgentKnows(t *testing.T) {
	withdrawn := func(t *testing.T) (*domain, []*memberHost, *api.AgentReport) {
		d := found(t)
		d.apply(clusterOf("c1", 1))
		m := d.members(2)
		m[0].asks(2)
		onItsWay := m[0].message() // made when it had the grant
		m[1].asks(2)
		d.clock.turn(startWithin + withdrawnAfter - time.Second)
		d.tend()
		if m[0].desired().Slot == nil {
			t.Fatal("withdrawn too early")
		}
		d.clock.turn(2 * time.Second)
		d.tend()
		if m[0].desired().Slot != nil {
			t.Fatal("an overdue slot is still shown")
		}
		d.clock.turn(24 * time.Hour)
		d.tend()
		if err := d.Report(t.Context(), m[0].caller, onItsWay); err != nil {
			t.Fatal(err)
		}
		d.restart()
		d.connect(m[0].caller)
		d.connect(m[1].caller)
		d.tend()
		m[1].tell(d.Control)
		wantStates(t, m, "granted", "waits")
		return d, m, onItsWay
	}
	t.Run("it knows", func(t *testing.T) {
		d, m, _ := withdrawn(t)
		m[0].look(d.Control)
		m[0].tell(d.Control)
		wantStates(t, m, "waits", "granted") // and goes behind the other
	})
	t.Run("it had begun", func(t *testing.T) {
		d, m, onItsWay := withdrawn(t)
		m[0].slot = slotOf(t, d, m[0])
		m[0].tell(d.Control)
		wantStates(t, m, "begun", "waits")
		if err := d.Report(t.Context(), m[0].caller, onItsWay); err != nil { // from an older stream
			t.Fatal(err)
		}
		wantStates(t, m, "begun", "waits")
		m[0].ask = 0
		m[0].look(d.Control)
		m[0].ends()
		wantStates(t, m, "", "granted")
	})
	t.Run("it begins after it said that it knows", func(t *testing.T) { // against the rules
		d, m, _ := withdrawn(t)
		slot := slotOf(t, d, m[0])
		m[0].look(d.Control)
		m[0].tell(d.Control)
		m[0].slot = slot
		m[0].tell(d.Control)
		wantStates(t, m, "begun", "granted")
		m[1].begins()
		m[1].ends()
		m[1].asks(3)
		wantStates(t, m, "begun", "waits") // the fact counts from when it is known
	})
}

func slotOf(t *testing.T, d *domain, m *memberHost) string {
	t.Helper()
	list, err := d.ListSlots(t.Context(), operator, &api.ListSlotsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range list.Slots {
		if slot.Agent == m.host.id {
			return slot.Id
		}
	}
	t.Fatal("no slot")
	return ""
}

// A report of a stream that broke, made before its agent had the grant, ends
// nothing though it is heard last.
func TestOldReportsEndNoSlot(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(2)
	m[0].look(d.Control)
	idle := m[0].message()
	m[0].asks(2)
	m[0].begins()
	m[1].asks(2)
	if err := d.Report(t.Context(), m[0].caller, idle); err != nil {
		t.Fatal(err)
	}
	wantStates(t, m, "begun", "waits")
}

// An agent that can't be told gets nothing; one that asks for a newer revision
// keeps its grant.
func TestGrantsReachTheirAgents(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(3)
	m[0].asks(2)
	m[0].begins()
	m[1].asks(2)
	m[2].asks(2)
	here, _ := d.presence.of(m[1].host.id)
	d.presence.leave(m[1].host.id, here.boot)
	m[0].ends()
	wantStates(t, m, "", "waits", "granted")
	if slot := m[2].asks(3); slot.GetRevision() != 3 {
		t.Errorf("slot %v after another revision was staged", slot)
	}
	wantStates(t, m, "", "waits", "granted")
	if m[2].asks(1<<64 - 1); m[2].status().Slot != "granted" {
		t.Error("a great number upsets it")
	}
}

// Of two servers on one store only one grants.
func TestTwoServersGrantOnce(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(6)
	first := d.Control
	d.open()
	planes := []*Control{first, d.Control}
	for _, one := range m {
		if _, err := d.Connect(t.Context(), one.caller, &api.Hello{Boot: lastBoot}); err != nil {
			t.Fatal(err)
		}
	}
	var away, most, went atomic.Int32
	var group sync.WaitGroup
	for i, one := range m {
		group.Go(func() {
			for turn := range 8 {
				c := planes[(i+turn)%2]
				for one.ask = uint64(turn + 2); ; c = planes[(i+turn)%2] {
					one.tell(c)
					if slot := one.look(c); slot != nil {
						one.slot, one.ask = slot.Id, 0
						break
					}
					turn++
				}
				now := away.Add(1)
				if now > most.Load() {
					most.Store(now)
				}
				one.tell(c)
				away.Add(-1)
				one.slot = ""
				one.tell(c)
				went.Add(1)
			}
		})
	}
	group.Wait()
	if most.Load() != 1 || went.Load() != 48 {
		t.Errorf("%d members were away at once; %d turns", most.Load(), went.Load())
	}
}

func TestSlotsAreForOperators(t *testing.T) {
	d := found(t)
	_, err := d.ListSlots(t.Context(), Caller{Kind: Agent}, &api.ListSlotsRequest{})
	wantCode(t, err, fault.Forbidden)
	_, err = d.ReleaseSlot(t.Context(), operator, &api.ReleaseSlotRequest{Id: "x"})
	wantCode(t, err, fault.Invalid)
	_, err = d.ReleaseSlot(t.Context(), operator, &api.ReleaseSlotRequest{Id: "x", Reason: "y"})
	wantCode(t, err, fault.NotFound)
}

// A member whose process was left in doubt keeps the others from going for a
// while, unless an operator resumes; one that was put back keeps nobody.
func TestUnwellMemberHoldsTheOthersForAWhile(t *testing.T) {
	fail := func(t *testing.T, restored bool) (*domain, []*memberHost) {
		d := found(t)
		d.apply(clusterOf("c1", 1))
		m := d.members(2)
		message := m[0].message()
		message.Placements[0].State = api.State_STATE_FAILED
		message.Placements[0].Failure = &api.Failure{Step: "prove", Reason: "nothing answers", Generation: 1, Restored: restored}
		if err := d.Report(t.Context(), m[0].caller, message); err != nil {
			t.Fatal(err)
		}
		m[1].asks(2)
		return d, m
	}
	t.Run("time", func(t *testing.T) {
		d, m := fail(t, false)
		wantStates(t, m, "", "waits")
		if reason := m[1].status().Reason; !strings.Contains(reason, "unwell since") || !strings.Contains(reason, "prove failed") {
			t.Errorf("reason %q", reason)
		}
		d.clock.turn(schedule.UnwellFor)
		d.tend()
		wantStates(t, m, "", "granted")
	})
	t.Run("resumed", func(t *testing.T) {
		d, m := fail(t, false)
		if _, err := d.Resume(t.Context(), operator, &api.ResumeRequest{Intent: "db"}); err != nil {
			t.Fatal(err)
		}
		d.tend()
		wantStates(t, m, "", "granted")
	})
	t.Run("put back", func(t *testing.T) {
		_, m := fail(t, true)
		wantStates(t, m, "", "granted")
	})
}

// A store from before clusters stood beside placements is brought up to date
// when it is opened, so that the first ask finds its cluster.
func TestPlacementsOfAnOlderStoreFindTheirCluster(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(2)
	if err := d.db.Close(); err != nil {
		t.Fatal(err)
	}
	raw := storetest.Raw(t, d.place)
	if _, err := raw.Exec("UPDATE placement SET cluster = NULL, target = ''"); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	d.restart()
	for _, one := range m {
		d.connect(one.caller)
		one.asks(2)
	}
	wantStates(t, m, "granted", "waits")
}

// Documents that move a member to another cluster are followed at once.
func TestClusterFollowsTheDocuments(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(2)
	m[0].asks(2)
	m[0].begins()
	d.apply(clusterOf("c2", 1))
	if cluster := m[1].status().Cluster; cluster != "c2" {
		t.Fatalf("cluster %q", cluster)
	}
	m[1].asks(2) // the one that is away is away there, too
	wantStates(t, m, "begun", "waits")
	m[0].ends()
	d.tend()
	wantStates(t, m, "", "granted")
}

// A member that is unwell by itself, while another one holds the slot, waits as
// the others do: its report is taken, and so is everybody's.
func TestUnwellMemberBesideAHolderWaits(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(2)
	m[1].asks(2)
	m[1].begins()
	m[0].asks(2)
	message := m[0].message()
	message.Placements[0].State = api.State_STATE_FAILED
	message.Placements[0].Failure = &api.Failure{Step: "prove", Reason: "nothing answers", Generation: 1}
	if err := d.Report(t.Context(), m[0].caller, message); err != nil {
		t.Fatal(err)
	}
	d.tend()
	wantStates(t, m, "waits", "begun")
	m[1].ends()
	wantStates(t, m, "granted", "")
}

// A cluster in which nothing can be decided holds no other cluster, and refuses
// nobody's report.
func TestOneClusterHoldsNoOther(t *testing.T) {
	d := found(t)
	d.apply(clusterOf(`"c-{{ labels.host }}"`, 1))
	m := d.members(2)
	spoil := store.Reported{Report: []byte("no report"), FailedAt: d.clock.now(), AsksSlot: 2, AskedAt: d.clock.now()}
	for _, id := range []string{m[0].id, m[1].id} {
		asking := store.Reported{AsksSlot: 2, AskedAt: d.clock.now()}
		if id == m[0].id {
			asking = spoil
		}
		if err := d.db.Write(t.Context(), func(tx *store.Tx) error { return tx.SetPlacementReport(t.Context(), id, asking) }); err != nil {
			t.Fatal(err)
		}
	}
	d.tend()
	slotOf(t, d, m[1])
}

// An agent that can't read its record says nothing of the slot that it holds.
func TestUnreadableRecordEndsNoSlot(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(2)
	blind := &api.AgentReport{Placements: []*api.PlacementReport{{PlacementId: m[0].id, State: api.State_STATE_FAILED, Reason: "read the record: input/output error"}}}
	say := func() {
		t.Helper()
		m[0].look(d.Control)
		blind.DesiredSeq = m[0].took.Seq
		if err := d.Report(t.Context(), m[0].caller, blind); err != nil {
			t.Fatal(err)
		}
	}
	m[0].asks(2)
	m[1].asks(2)
	d.clock.turn(startWithin + withdrawnAfter + time.Second)
	d.tend()
	say()
	wantStates(t, m, "granted", "waits") // it may have begun, unheard
	m[0].slot = slotOf(t, d, m[0])
	m[0].tell(d.Control)
	say()
	wantStates(t, m, "begun", "waits")
	m[0].ask = 0
	m[0].ends()
	wantStates(t, m, "", "granted")
}

// A fresh grant that is released is withdrawn first: its agent may be about to
// begin. Released again it ends; and what begins all the same is a fact.
func TestReleaseOfAGrant(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(2)
	m[0].asks(2)
	m[1].asks(2)
	id := slotOf(t, d, m[0])
	release := func() {
		t.Helper()
		if _, err := d.ReleaseSlot(t.Context(), operator, &api.ReleaseSlotRequest{Id: id, Reason: "host is gone"}); err != nil {
			t.Fatal(err)
		}
	}
	release()
	wantStates(t, m, "granted", "waits")
	if m[0].desired().Slot != nil {
		t.Error("a released slot is still shown")
	}
	release()
	wantStates(t, m, "waits", "granted")
	m[0].slot = id
	m[0].tell(d.Control)
	wantStates(t, m, "begun", "granted")
	m[1].begins()
	m[1].ends()
	m[1].asks(3)
	wantStates(t, m, "begun", "waits")
	release()
	m[0].tell(d.Control) // a begun one that an operator ended stays so
	wantStates(t, m, "", "granted")
}

// What keeps failing does not begin to be unwell anew with each attempt.
func TestUnwellIsBounded(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(2)
	fail := func(step string) {
		t.Helper()
		message := m[0].message()
		message.Placements[0].Failure = &api.Failure{Step: step, Reason: "nothing answers", Generation: 1, At: timestamppb.New(d.clock.now())}
		if err := d.Report(t.Context(), m[0].caller, message); err != nil {
			t.Fatal(err)
		}
	}
	fail("check") // touches no process
	d.clock.turn(schedule.UnwellFor)
	fail("prove")
	m[1].asks(2)
	wantStates(t, m, "", "waits")
	for range 3 {
		d.clock.turn(schedule.UnwellFor / 3)
		fail("prove")
	}
	d.tend()
	wantStates(t, m, "", "granted")
}

// A slot that a restored store does not know is begun by its agent's word.
func TestUnknownSlotIsBegun(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(2)
	m[0].slot = newID()
	m[0].tell(d.Control)
	m[1].asks(2)
	wantStates(t, m, "begun", "waits")
	m[0].look(d.Control)
	m[0].ends()
	wantStates(t, m, "", "granted")
	stolen := m[1].message()
	stolen.Placements[0].SlotId = m[0].slot + strings.Repeat("x", 300)
	if err := d.Report(t.Context(), m[1].caller, stolen); err != nil {
		t.Fatal(err)
	}
	wantStates(t, m, "", "granted") // no id of ours
}

// A slot is over where the copy that this store was restored from has it as
// granted, and its member went through with it since, and further.
func TestSlotsOfACopyAreOver(t *testing.T) {
	for _, c := range []struct {
		name     string
		revision uint64
		state    api.State
		want     string
	}{
		{"that revision is in use", 2, api.State_STATE_STEADY, ""},
		{"a later one is", 4, api.State_STATE_STEADY, ""},
		{"a later one is, and not settled", 4, api.State_STATE_ROTATING, "granted"},
		{"an earlier one is", 1, api.State_STATE_STEADY, "granted"},
	} {
		d := found(t)
		d.apply(clusterOf("c1", 1))
		m := d.members(2)
		m[0].asks(2)
		m[1].asks(2)
		m[0].ask = 0
		message := m[0].message()
		message.Placements[0].Revision, message.Placements[0].State = c.revision, c.state
		if err := d.Report(t.Context(), m[0].caller, message); err != nil {
			t.Fatal(err)
		}
		others := "waits"
		if c.want == "" {
			others = "granted"
		}
		if got := states(m); got[0] != c.want || got[1] != others {
			t.Errorf("%s: slots %q", c.name, got)
		}
	}
}
