package control

import (
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// sealed makes an emergency credential and returns who calls by it.
func (d *domain) sealed(name string, uses uint32, until time.Time) (Caller, error) {
	d.t.Helper()
	_, request := csr(d.t)
	made, err := d.CreateEmergency(d.t.Context(), operator, &api.CreateEmergencyRequest{Name: name, Uses: uses, Until: timestamppb.New(until), Csr: request})
	if err != nil {
		return Caller{}, err
	}
	leaf, err := pki.ParseCertificateDER(made.Chain[0])
	if err != nil {
		d.t.Fatal(err)
	}
	return Caller{Kind: Emergency, ID: name, Serial: serialOf(d.t, leaf)}, nil
}

func (d *domain) use(caller Caller, reason string) (*api.UseEmergencyResponse, error) {
	_, request := csr(d.t)
	return d.UseEmergency(d.t.Context(), caller, &api.UseEmergencyRequest{Csr: request, Reason: reason})
}

// An emergency credential is good for its uses and for nothing else, also when two
// come at once and across a restart; what it is exchanged for lives for an hour.
func TestEmergencyCredentialIsGoodForItsUsesAtOnce(t *testing.T) {
	d := found(t)
	safe, err := d.sealed("safe", 2, d.clock.now().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.use(safe, "")
	wantCode(t, err, fault.Invalid)
	_, err = d.ListPlacements(t.Context(), safe, &api.ListPlacementsRequest{})
	wantCode(t, err, fault.Forbidden)
	_, err = d.use(operator, "not by an ordinary one")
	wantCode(t, err, fault.Forbidden)
	first, err := d.use(safe, "locked out")
	if err != nil || first.UsesLeft != 1 || first.NotAfter.AsTime().After(d.clock.now().Add(emergencyLife)) {
		t.Fatalf("the first use: %v %v", first, err)
	}
	d.restart()
	var mu sync.Mutex
	var group sync.WaitGroup
	got := 0
	for range 8 {
		group.Go(func() {
			if _, err := d.use(safe, "at once"); err == nil {
				mu.Lock()
				got++
				mu.Unlock()
			} else if fault.CodeOf(err) != fault.Forbidden {
				t.Errorf("used up: %v", err)
			}
		})
	}
	group.Wait()
	if got != 1 {
		t.Errorf("the last use was given out %d times", got)
	}
	used, refused := 0, 0
	for _, entry := range d.entries() {
		if strings.Contains(entry, `"verb":"emergency.use"`) {
			if strings.Contains(entry, `"outcome":"done"`) {
				used++
			} else {
				refused++
			}
		}
	}
	if used != 2 || refused < 7 {
		t.Errorf("the log has %d uses and %d refusals, of 2 and at least 7", used, refused)
	}
}

// A credential that was revoked, or that never was, opens nothing; one that ends too
// soon or too late is not made.
func TestEmergencyCredentialsThatAreRefused(t *testing.T) {
	d := found(t)
	safe, err := d.sealed("safe", 1, d.clock.now().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for what, until := range map[string]time.Time{"past": d.clock.now().Add(-time.Hour), "soon": d.clock.now().Add(time.Second), "for ever": d.clock.now().Add(100 * 365 * 24 * time.Hour)} {
		_, err := d.sealed("other", 1, until)
		if fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	stranger := Caller{Kind: Emergency, ID: "safe", Serial: strings.Repeat("0a", 16)}
	if _, err := d.use(stranger, "by a serial of nobody"); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("a certificate that is not on record: %v", err)
	}
	d.revoke(&api.RevokeRequest{Serial: safe.Serial, Now: true})
	if _, err := d.use(safe, "after it was revoked"); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("a revoked one: %v", err)
	}
}

// Of each name one credential is good at a time: another is made only when the
// first is used up, revoked or over.
func TestEmergencyCredentialsHaveNamesOfTheirOwn(t *testing.T) {
	d := found(t)
	in := func(life time.Duration) time.Time { return d.clock.now().Add(life) }
	safe, err := d.sealed("safe", 1, in(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	before := len(d.entries())
	_, err = d.sealed("safe", 1, in(48*time.Hour))
	wantCode(t, err, fault.Conflict)
	if !strings.Contains(err.Error(), "of each name one is good at a time") || !strings.Contains(err.Error(), "rotunda revoke serial "+safe.Serial) {
		t.Errorf("refused as: %v", err)
	}
	for _, entry := range d.entries()[before:] {
		if strings.Contains(entry, `"outcome":"done"`) {
			t.Errorf("the refusal did: %s", entry)
		}
	}
	if _, err := d.sealed("vault", 1, in(24*time.Hour)); err != nil {
		t.Errorf("another name: %v", err)
	}
	if _, err := d.use(safe, "locked out"); err != nil {
		t.Fatal(err)
	}
	second, err := d.sealed("safe", 1, in(24*time.Hour))
	if err != nil {
		t.Fatalf("once it is used up: %v", err)
	}
	d.revoke(&api.RevokeRequest{Serial: second.Serial, Now: true})
	if _, err := d.sealed("safe", 1, in(time.Hour)); err != nil {
		t.Fatalf("once it is revoked: %v", err)
	}
	d.clock.turn(2 * time.Hour)
	if _, err := d.sealed("safe", 1, in(time.Hour)); err != nil {
		t.Fatalf("once it is over: %v", err)
	}
}
