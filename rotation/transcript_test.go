package rotation

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// TestTranscripts plays each script of testdata and compares what was done with
// what is written there. A script is read as a story: what is desired, what
// breaks, how time passes, and each step that follows.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(archive.Files[0].Data))
			if *update {
				archive.Files = []txtar.File{archive.Files[0], {Name: "steps", Data: []byte(got)}}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(archive.Files) < 2 || got != string(archive.Files[1].Data) {
				t.Errorf("%s: the steps are now\n%s", file, got)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	w := newWorld()
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(script), "\n") {
		fmt.Fprintf(&out, "> %s\n", line)
		seen := len(w.steps)
		command(t, w, strings.Fields(line))
		made := w.steps[seen:]
		for i, s := range made {
			switch {
			case i < 12 || i >= len(made)-8:
				fmt.Fprintf(&out, "%s\n", describe(s))
			case i == 12:
				fmt.Fprintf(&out, "… %d more …\n", len(made)-20)
			}
		}
	}
	w.sound(t)
	return out.String()
}

func command(t *testing.T, w *world, words []string) {
	arg := func() string { return strings.Join(words[1:], " ") }
	number := func() uint64 { n, _ := strconv.ParseUint(arg(), 10, 64); return n }
	switch words[0] {
	case "run":
		w.run(t)
	case "pass":
		d, err := time.ParseDuration(arg())
		if err != nil {
			t.Fatal(err)
		}
		w.pass(t, d)
	case "kill": // kill AT: run until killed there
		done := false
		w.kill = func(at string) bool {
			hit := !done && at == arg()
			done = done || hit
			return hit
		}
		for !done && w.step().Action != Wait {
		}
		if w.kill = nil; !done {
			t.Fatalf("never came to %q", arg())
		}
	case "terms":
		w.d.Terms = Terms(arg())
	case "bundle":
		w.d.Bundle = bundle(byte(number()))
	case "bridge": // of this number; 0: none
		w.d.Bridge = bridge(byte(number()))
	case "crl": // of this number, signed now; 0: none
		w.d.CRL = dated('C', byte(number()), w.now)
	case "unfit": // crl of this number
		w.unfit[byte(number())] = true
	case "stale": // open or closed
		w.d.OpenOnStale = arg() == "open"
	case "staple": // staple NUMBER GENERATION
		n, _ := strconv.ParseUint(words[1], 10, 8)
		g, _ := strconv.ParseUint(words[2], 10, 64)
		w.d.Staple, w.stapled = dated('S', byte(n), w.now), g
	case "revoke": // a generation
		w.d.Revoked = append(w.d.Revoked, number())
	case "root": // that is issued under from now on
		w.root = words[1][0]
	case "identity":
		w.d.Identity = arg() == "yes"
	case "hold":
		w.d.Hold = arg()
	case "orphan":
		w.d.Orphan = true
	case "renew-through":
		w.d.RenewThrough = number()
	case "renew-from": // in so long
		d, err := time.ParseDuration(arg())
		if err != nil {
			t.Fatal(err)
		}
		w.d.RenewFrom = w.now.Add(d)
	case "member":
		w.d.NeedsSlot = true
	case "slot": // slot ID REVISION; none: it is withdrawn
		w.d.Slot = Slot{}
		if len(words) == 3 {
			n, _ := strconv.ParseUint(words[2], 10, 64)
			w.d.Slot = Slot{ID: words[1], Revision: n, Until: w.now.Add(30 * time.Second)}
		}
	case "process":
		if w.start(); arg() == "stops" {
			w.down = true
		}
	case "unwell":
		w.unwell = arg() == "yes"
	case "new-key":
		w.d.NewKey = true
	case "key-age":
		w.d.KeyAge, _ = time.ParseDuration(arg())
	case "attempt":
		w.d.Attempt = number()
	case "repair":
		w.d.Repair = arg() == "yes"
	case "wipe": // a revision; 0: the whole directory
		w.wipe(number())
	case "move": // to another directory
		w.move()
	case "drift":
		w.drift = arg()
	case "server":
		if w.backdate = 0; arg() == "signs the past" {
			w.backdate = 2 * w.lifetime // ran out before it was asked for
		} else if arg() == "signs the end" {
			w.backdate = w.lifetime * 9 / 10 // due, and urgent, from its first moment
		}
		w.serverDown, w.badLeaf, w.refusal = arg() == "down", arg() == "wrong", ""
		if words[1] == "refuses" {
			w.refusal = "the policy refuses"
		}
	case "peers":
		w.badCheck = arg() == "behind"
	case "reload":
		w.badReload = arg() == "fails"
	case "liar":
		w.liar[number()] = true
	case "honest":
		clear(w.liar)
	case "disk":
		w.diskFull = arg() == "full"
	default:
		t.Fatalf("unknown command %q", words)
	}
}
