package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/schedule"
)

// fleetWorld is a fleet of names, told in words: what is known of it, and what
// became of it. Agents take a minute for a rotation unless they are told not to.
type fleetWorld struct {
	t      *testing.T
	now    time.Time
	model  *Model
	facts  []Fact
	seen   map[string]Seen // by name
	order  []string
	busy   map[string]time.Time // when a rotation ends
	stuck  map[string]bool
	specs  map[string]Spec
	wins   uint64
	looks  time.Duration
	shadow string // what was said last, so that only changes are shown
	gates  map[string]bool
}

func newFleetWorld(t *testing.T) *fleetWorld {
	return &fleetWorld{
		t: t, now: time.Date(2030, 3, 4, 14, 0, 0, 0, time.UTC), model: NewModel(), seen: map[string]Seen{},
		busy: map[string]time.Time{}, stuck: map[string]bool{}, specs: map[string]Spec{}, gates: map[string]bool{},
	}
}

func id(name string) uuid.UUID { return uuid.NewSHA1(uuid.Nil, []byte(name)) }

func (w *fleetWorld) tell(fact Fact) {
	w.facts = append(w.facts, fact)
	w.model.Observe(fact)
}

func (w *fleetWorld) name(placement uuid.UUID) string {
	for _, name := range w.order {
		if id(name) == placement {
			return name
		}
	}
	return placement.String()
}

func (w *fleetWorld) show(name string, change func(*Seen)) {
	s := w.seen[name]
	change(&s)
	w.looks++ // no two reports share a moment
	s.At = w.now.Add(w.looks * time.Microsecond)
	w.seen[name] = s
	w.tell(s)
}

// step lets the world do what is asked of it now, and says what was done.
func (w *fleetWorld) step(out *strings.Builder) {
	for _, name := range w.order {
		if ends, busy := w.busy[name]; busy && !w.stuck[name] && !ends.After(w.now) {
			delete(w.busy, name)
			w.show(name, func(s *Seen) {
				s.Generation, s.Steady, s.Failed, s.Well, s.Level, s.Adopted = s.Generation+1, true, false, true, fleet.Proven, true
			})
		}
	}
	for range 100 {
		actions, reasons := w.model.Next(w.now)
		did := false
		for _, a := range actions {
			did = w.carry(out, a) || did
		}
		if !did {
			w.say(out, reasons)
			return
		}
	}
	w.t.Fatalf("it finds no rest")
}

func (w *fleetWorld) carry(out *strings.Builder, a Action) bool {
	stamp := w.now.Format("02 15:04")
	switch a.Do {
	case Rotate:
		name := w.name(a.Placement)
		fmt.Fprintf(out, "%s wave %d: rotate %s\n", stamp, a.Wave+1, name)
		w.tell(Asked{a.Rollout, a.Placement, w.now})
		w.busy[name] = w.now.Add(time.Minute)
		w.show(name, func(s *Seen) { s.Steady = false })
	case Note:
		w.tell(Settled{a.Rollout, a.Placement, w.now})
	case End:
		fmt.Fprintf(out, "%s done\n", stamp)
		w.tell(Ended{a.Rollout, w.now})
	case Tell:
		fmt.Fprintf(out, "%s wave %d: owners are told: %s\n", stamp, a.Wave+1, strings.TrimSuffix(string(a.Event)+": "+a.Words, ": "))
		w.tell(Told{a.Rollout, a.Event, "orders", w.now, w.now})
	case AskOut:
		key := fmt.Sprint(a.Rollout, a.Wave, a.Gate.Name, w.now)
		if w.gates[key] {
			return false
		}
		w.gates[key] = true
		fmt.Fprintf(out, "%s wave %d: ask gate %s\n", stamp, a.Wave+1, a.Gate.Name)
	}
	return true
}

func (w *fleetWorld) say(out *strings.Builder, reasons []Holdup) {
	var lines []string
	for _, r := range reasons {
		lines = append(lines, fmt.Sprintf("%s (%d)", r.Text, r.Count))
	}
	said := strings.Join(lines, "\n")
	if said != w.shadow && said != "" {
		for _, line := range lines {
			fmt.Fprintf(out, "%s %s\n", w.now.Format("02 15:04"), line)
		}
	}
	w.shadow = said
}

// command carries out one line of a script.
func (w *fleetWorld) command(out *strings.Builder, words []string) {
	args := map[string]string{}
	var plain []string
	for _, word := range words[1:] {
		if key, value, ok := strings.Cut(word, "="); ok {
			args[key] = value
		} else {
			plain = append(plain, word)
		}
	}
	switch words[0] {
	case "have": // have NAME... [intent= cluster= region=]
		for _, name := range plain {
			w.order = append(w.order, name)
			w.seen[name] = Seen{
				Placement: id(name), Intent: cmpOr(args["intent"], "orders-db"), Cluster: args["cluster"],
				Member: schedule.Member{Agent: name, Target: "t"}, Generation: 1, Level: fleet.Proven, Steady: true, Well: true, Adopted: true,
			}
			w.show(name, func(*Seen) {})
		}
		w.specs["region:"+strings.Join(plain, " ")] = Spec{Name: args["region"]}
		for _, name := range plain {
			w.specs["region:"+name] = Spec{Name: args["region"]}
		}
	case "window", "freeze": // window NAME FROM TO [zone=] [days=]
		w.wins++
		window := &fleet.Window{From: fleet.Clock(plain[1]), To: fleet.Clock(plain[2]), Timezone: cmpOr(args["zone"], "UTC"), Freeze: words[0] == "freeze"}
		for _, day := range strings.Split(args["days"], ",") {
			if day != "" {
				window.Days = append(window.Days, fleet.Weekday(day))
			}
		}
		w.tell(Declared{fleet.Name(plain[0]), w.wins, window})
	case "undeclare":
		w.wins++
		w.tell(Declared{fleet.Name(plain[0]), w.wins, nil})
	case "begin":
		w.begin(out, plain[0], args)
	case "pause", "resume", "abort", "rollback": // pause ROLLOUT REASON
		w.tell(Decided{id(plain[0]), Act(words[0]), w.now, "ann", strings.Join(plain[1:], " ")})
	case "answer": // answer ROLLOUT GATE WAVE pass|WORDS
		wave, _ := strconv.Atoi(plain[2])
		w.tell(GateAnswered{id(plain[0]), wave - 1, fleet.Name(plain[1]), plain[3] == "pass", strings.Join(plain[3:], " "), w.now})
	case "announce", "reach": // announce ROLLOUT SERVICE
		told := Told{Rollout: id(plain[0]), Event: Announced, Service: fleet.Name(plain[1]), At: w.model.run(id(plain[0])).begun.At}
		if words[0] == "reach" {
			told.Reached = w.now
		}
		w.tell(told)
	case "stick":
		w.stuck[plain[0]] = true
	case "unstick":
		delete(w.stuck, plain[0])
	case "fail":
		w.stuck[plain[0]] = true
		w.show(plain[0], func(s *Seen) { s.Failed, s.Well, s.Steady = true, false, false })
	case "heal":
		delete(w.stuck, plain[0])
		w.show(plain[0], func(s *Seen) { s.Failed, s.Well, s.Steady = false, true, true })
	case "unwell", "lacks", "gone", "well":
		w.show(plain[0], func(s *Seen) {
			s.Well, s.Adopted, s.Gone = words[0] != "unwell", words[0] != "lacks", words[0] == "gone"
		})
	case "hold", "free": // hold CLUSTER CHANGE
		w.tell(Held{plain[0], strings.Join(plain[1:], " "), w.now, words[0] == "free"})
	case "anew": // another server: what it knows it has from the store
		w.model, w.shadow = NewModel(), ""
		for _, fact := range w.facts {
			w.model.Observe(fact)
		}
	case "at":
		at, err := time.Parse("2006-01-02T15:04", plain[0])
		if err != nil {
			w.t.Fatal(err)
		}
		w.now = at
	case "pass":
		d, err := time.ParseDuration(plain[0])
		if err != nil {
			w.t.Fatal(err)
		}
		for end := w.now.Add(d); w.now.Before(end); {
			w.now = w.now.Add(min(time.Minute, end.Sub(w.now)))
			w.step(out)
		}
		return
	case "status":
		w.status(out, plain[0])
		return
	default:
		w.t.Fatalf("unknown command %q", words)
	}
	w.step(out)
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func (w *fleetWorld) begin(out *strings.Builder, name string, args map[string]string) {
	spec := Spec{Name: name, PerMinute: 1000, ByRegion: args["regions"] != "", NewKey: args["key"] == "new"}
	for _, step := range strings.Split(cmpOr(args["steps"], "1,50%,100%"), ",") {
		one, err := ParseStep(step)
		if err != nil {
			w.t.Fatal(err)
		}
		spec.Steps = append(spec.Steps, one)
	}
	if regions := args["regions"]; regions != "" && regions != "any" {
		spec.Regions = strings.Split(regions, ",")
	}
	if windows := args["windows"]; windows != "" {
		spec.Windows = []fleet.Name{fleet.Name(windows)}
	}
	soak, _ := time.ParseDuration(cmpOr(args["soak"], "0s"))
	spec.Soak = fleet.Duration(soak)
	notice, _ := time.ParseDuration(cmpOr(args["notice"], "0s"))
	spec.Notice, spec.Gates.Told = fleet.Duration(notice), args["told"] != ""
	if n, _ := strconv.Atoi(args["per-minute"]); n > 0 {
		spec.PerMinute = n
	}
	spec.AtOnce, _ = strconv.Atoi(args["at-once"])
	spec.Gates.Failures, _ = strconv.Atoi(args["failures"])
	spec.Gates.Health, spec.Gates.Adoption, spec.Gates.Level = args["health"] != "", args["adoption"] != "", fleet.Level(args["level"])
	if gate := args["gate"]; gate != "" {
		spec.Gates.Outside = []Gate{{Name: fleet.Name(gate)}}
	}
	var places []Seat
	for _, each := range w.order {
		if intent := args["intent"]; intent == "" || intent == w.seen[each].Intent {
			places = append(places, Seat{id(each), w.specs["region:"+each].Name, w.seen[each].Generation})
		}
	}
	waves, parts, err := Plan(spec, places)
	if err != nil {
		fmt.Fprintf(out, "refused: %v\n", err)
		return
	}
	if calendar := w.model.calendar(spec); true {
		if _, opens := calendar.Next(w.now, true); !opens {
			fmt.Fprintf(out, "never: %s\n", calendar.why(w.now))
		}
	}
	for i, wave := range waves {
		var names []string
		for _, part := range parts {
			if part.Wave == i {
				names = append(names, w.name(part.Placement))
			}
		}
		slices.Sort(names)
		fmt.Fprintf(out, "wave %d %s: %s\n", i+1, wave, strings.Join(names, " "))
	}
	w.tell(Begun{Rollout: id(name), Spec: spec, Waves: waves, Parts: parts, At: w.now, Well: len(places)})
}

func (w *fleetWorld) status(out *strings.Builder, name string) {
	s, _ := w.model.Status(id(name), w.now)
	fmt.Fprintf(out, "%s, wave %d of %d, well %d before, %d now\n", s.State, min(s.Wave+1, len(s.Waves)), len(s.Waves), s.Before, s.Well)
	for i, wave := range s.Waves {
		fmt.Fprintf(out, "  wave %d: %d pending, %d under way, %d failed, %d there, %d gone\n", i+1, wave.Pending, wave.Moving, wave.Failed, wave.There, wave.Gone)
	}
	if e := w.model.Estimate(id(name), w.now); len(e.Assumes) > 0 {
		end := "nobody can say when it ends"
		if !e.End.IsZero() {
			end = "it ends at " + e.End.Format("Jan 2 15:04")
		}
		fmt.Fprintf(out, "  %s, if %s\n", end, strings.Join(e.Assumes, "; "))
	}
}
