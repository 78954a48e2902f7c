package whatif

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/schedule"
)

func plainProfile(algorithm fleet.Algorithm, lifetime time.Duration) *fleet.Profile {
	return &fleet.Profile{
		Algorithm: algorithm, Lifetime: fleet.Duration(lifetime), RenewAt: 0.5, RideOut: fleet.Duration(lifetime / 6),
		Usages: []fleet.Usage{fleet.ServerAuth}, TLS: fleet.TLS{MinVersion: "1.2"},
	}
}

// reprofiled is a profile that members of a cluster and one other have, of which
// web and bank are clients.
func reprofiled(change func(*Reprofiled)) Reprofiled {
	r := Reprofiled{
		Name: "server", Before: plainProfile("ecdsa-p256", 24*time.Hour), After: plainProfile("ecdsa-p256", 24*time.Hour),
		Facts:  graph.Facts{Services: []graph.Party{party("orders", "web", "bank"), party("web"), outsider("bank")}},
		Issuer: "issuing", IssuerEnds: noon.Add(1000 * 24 * time.Hour),
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		seat := Reseat{
			Name: "db on agent " + name, Intent: "db", DueBy: noon.Add(time.Hour), Protocol: "TLS 1.3", Group: "X25519",
			Means: Means{Place: name, Service: "orders", Title: "etcd", Cluster: "c1", AtOnce: 1, Member: schedule.Member{Agent: name, Target: "t"}},
		}
		if name == "d" {
			seat.Cluster, seat.DueBy = "", noon.Add(9*time.Hour)
		}
		r.Seats = append(r.Seats, seat)
		r.Facts.Places = append(r.Facts.Places, graph.Place{ID: name, Service: "orders", Intent: "db", Agent: name})
	}
	change(&r)
	return r
}

func saysOf(told Foretold) string {
	var lines []string
	for _, one := range told.Obstacles {
		lines = append(lines, map[bool]string{true: "certain ", false: "perhaps "}[one.Certain]+one.Who+" "+one.Reason)
	}
	return strings.Join(lines, "\n")
}

// Each thing about a profile, a process or an authority that stands in the way
// is said, and said only where it does.
func TestWhatAProfileMeets(t *testing.T) {
	rotating := func(r *Reprofiled) {
		r.After.Algorithm = "ed25519"
		for i := range r.Seats {
			r.Seats[i].Rotates = true
		}
	}
	for name, test := range map[string]struct {
		change func(*Reprofiled)
		says   []string
	}{
		"nothing": {func(*Reprofiled) {}, nil},
		"away":    {func(r *Reprofiled) { r.Seats[0].Away = true }, []string{"certain db on agent a its agent is not connected"}},
		"leaf at restart": {func(r *Reprofiled) { r.Seats[1].LeafAtRestart = true },
			[]string{"certain db on agent b etcd takes a certificate only at a restart, and names no restartCommand"}},
		"leaf at restart, by a command": {func(r *Reprofiled) { r.Seats[1].LeafAtRestart, r.Seats[1].Restart = true, "restart-etcd" }, nil},
		"another key": {func(r *Reprofiled) { rotating(r); r.Verifies = map[fleet.Name][]fleet.Algorithm{"web": {"ed25519"}} },
			[]string{"perhaps outside party bank is an outside party: nobody here sees whether it verifies an ed25519 key"}},
		"another key, met by nobody": {rotating, []string{
			"perhaps outside party bank is an outside party: nobody here sees whether it verifies an ed25519 key",
			"perhaps web meets no ed25519 key yet: nothing here shows that it verifies one",
		}},
		"keystores": {func(r *Reprofiled) {
			rotating(r)
			r.Facts.Services = []graph.Party{party("orders")}
			r.Seats[2].Formats = []fleet.Format{fleet.FormatJKS}
		}, []string{"perhaps db on agent c its jks keystore would hold an ed25519 key, which Java reads from version 15 on"}},
		"CRLs": {func(r *Reprofiled) { r.After.Revocation.CRL, r.Seats[0].NoCRL = true, true },
			[]string{"perhaps db on agent a etcd never reads a CRL: a revoked client is served until its certificate ends"}},
		"TLS 1.3": {func(r *Reprofiled) { r.After.TLS.MinVersion, r.Seats[0].Protocol = "1.3", "TLS 1.2" }, []string{"perhaps db on agent a its newest handshake was TLS 1.2, and 1.3 would be the least"}},
		"groups": {func(r *Reprofiled) {
			r.After.TLS.Groups = []fleet.Group{"X25519MLKEM768", "X25519"}
			r.Seats[3].Group = "CurveP256"
		}, []string{"perhaps db on agent d its newest handshake was by CurveP256, which would not be enough"}},
		"the issuer ends":  {func(r *Reprofiled) { r.IssuerEnds = noon.Add(12 * time.Hour) }, []string{"certain issuing ends at 2030-01-03 02:02: certificates of 24h would be cut short to 12h"}},
		"the issuer's own": {func(r *Reprofiled) { r.IssuerEnds = noon.Add(55 * time.Hour) }, []string{"perhaps issuing ends at 2030-01-04 21:02, in less than twice lifetime and rideOut: it is to be replaced before"}},
		"just enough":      {func(r *Reprofiled) { r.IssuerEnds = noon.Add(56 * time.Hour) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			told := reprofiled(test.change).Foretell(noon)
			if want := strings.Join(test.says, "\n"); saysOf(told) != want || len(told.Breaks) > 0 {
				t.Errorf("it says\n%s\nwant\n%s", saysOf(told), want)
			}
		})
	}
}

// A cluster takes a renewal for each member in turn, and restarts where the kind
// wants it; what need not rotate has until its window closes; issuances follow
// from the windows.
func TestHowAProfileWouldGo(t *testing.T) {
	told := reprofiled(func(r *Reprofiled) {
		r.After = plainProfile("ecdsa-p384", 12*time.Hour)
		for i := range r.Seats[:3] {
			r.Seats[i].Rotates, r.Seats[i].KeyAtRestart, r.Seats[i].Restart = true, true, "restart-etcd"
		}
	}).Foretell(noon)
	if len(told.Phases) != 2 {
		t.Fatalf("phases %+v", told.Phases)
	}
	apply, later := told.Phases[0], told.Phases[1]
	if apply.Takes != 3*RenewTime || apply.Renewals["placement"] != 3 || len(apply.Restarts) != 1 || len(apply.Restarts[0].Members) != 3 || apply.Restarts[0].AtOnce != 1 {
		t.Errorf("apply %+v", apply)
	}
	if later.Takes != 0 || later.Renewals["placement"] != 1 || !later.EndsBy.Equal(noon.Add(9*time.Hour)) {
		t.Errorf("renewals %+v", later)
	}
	if day := told.Figures[len(told.Figures)-1]; day != (Figure{"issuances a day", "6.0", "12.0"}) {
		t.Errorf("figures %+v", told.Figures)
	}
	teams := []string{}
	for _, contact := range told.Ask {
		teams = append(teams, contact.Team)
	}
	if !slices.Equal(teams, []string{"bank-team", "orders-team", "web-team"}) {
		t.Errorf("ask %v", teams)
	}
	stopped := reprofiled(func(r *Reprofiled) { r.Stops = []string{"no"} }).Foretell(noon)
	if len(stopped.Phases) != 0 {
		t.Errorf("what can't be applied goes %+v", stopped.Phases)
	}
}

// A rollout of it is reckoned by the planner: members of a cluster follow each
// other, work waits for its window, and a freeze holds both.
func TestAProfileInWaves(t *testing.T) {
	nights := &fleet.Window{From: "22:00", To: "22:02", Timezone: "UTC"}
	never := &fleet.Window{From: "03:00", To: "03:01", Timezone: "UTC", Freeze: true}
	ends := func(windows map[fleet.Name]*fleet.Window) (texts []string) {
		told := reprofiled(func(r *Reprofiled) { r.Windows = windows }).Foretell(noon)
		for _, one := range told.Waves {
			texts = append(texts, string(one.Window)+" "+one.End.Format("02 15:04"))
		}
		return texts
	}
	// Four placements in waves of one, one and two; three are of one cluster.
	if got := ends(nil); len(got) != 1 || got[0] < " 02 14:05" || got[0] > " 02 14:06" {
		t.Errorf("at all times %q", got)
	}
	got := ends(map[fleet.Name]*fleet.Window{"nights": nights, "never": never})
	if len(got) != 2 || got[1] < "nights 03 22:00" || got[1] > "nights 03 22:02" {
		t.Errorf("in windows of two minutes %q: want the second night", got)
	}
	if told := reprofiled(func(r *Reprofiled) { r.Seats = nil }).Foretell(noon); len(told.Waves) != 0 || len(told.Phases) != 0 {
		t.Errorf("over nobody: %+v", told)
	}
}
