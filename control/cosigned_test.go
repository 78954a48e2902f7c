package control

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/witness"
)

// Agents are sent the newest checkpoint that has the cosignatures required, with
// them, beside the newest of all: an older one while fewer have cosigned what came
// since, none before there is one, from a server that asks nobody, and from a
// store that is rolled back.
func TestAgentsAreSentWhatIsCosigned(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	cosigned := func() []byte {
		t.Helper()
		state, err := h.domain.Desired(t.Context(), h.caller)
		if err != nil {
			t.Fatal(err)
		}
		return state.Cosigned
	}
	var keys []audit.CosigningKey
	d.witnesses = witness.Config{Required: 2}
	for _, name := range []string{"w1", "w2"} {
		key, err := audit.NewCosigningKey("witness.example/" + name)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
		d.witnesses.Ask = append(d.witnesses.Ask, witness.Peer{Name: name, Key: key.Cosigner().VerifierKey(), URL: "http://localhost"})
	}
	if err := d.DeclareWitnesses(t.Context()); err != nil {
		t.Fatal(err)
	}
	lease, err := d.LeaseWitnesses(t.Context(), "here", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cosign := func(by int) uint64 {
		t.Helper()
		size, err := d.NewestSize(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		request, _, err := d.WitnessRequest(t.Context(), 0, size)
		if err != nil {
			t.Fatal(err)
		}
		cp, err := audit.OpenCheckpoint(request.Signed, d.Origin(), d.LogVerifier())
		if err != nil {
			t.Fatal(err)
		}
		line := audit.Cosignature{Line: keys[by].Cosign(cp, time.Now()), At: time.Now()}
		if err := d.WitnessCosigned(t.Context(), lease, d.witnesses.Ask[by], size, line); err != nil {
			t.Fatal(err)
		}
		return size
	}
	d.sequence()
	if cosign(0); cosigned() != nil {
		t.Errorf("cosigned by one of two: %s", cosigned())
	}
	size := cosign(1)
	d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	d.sequence()
	if newer := cosign(0); newer == size {
		t.Fatal("the log did not grow")
	}
	cp, by, err := audit.CosignedBy(cosigned(), d.LogVerifier(), []audit.Cosigner{keys[0].Cosigner(), keys[1].Cosigner()})
	if err != nil || cp.Size != size || len(by) != 2 {
		t.Errorf("sent is %+v, cosigned by %d, want %d entries by 2: %v", cp, len(by), size, err)
	}
	asked := d.witnesses
	d.witnesses = witness.Config{}
	d.enrolHost(map[string]string{"role": "orders", "host": "c"})
	if cosigned() != nil {
		t.Error("a server that asks nobody sends what others were asked for")
	}
	d.witnesses = asked
	d.witnesses.Required = 3
	d.enrolHost(map[string]string{"role": "orders", "host": "d"})
	if cosigned() != nil {
		t.Error("three are required now, and what two cosigned is sent")
	}
	d.witnesses.Required = 2
	h.show(d.foreseen(3, d.logSigner), 1)
	if state := cosigned(); !d.rolledBack() || state != nil {
		t.Errorf("a store that is rolled back sends %s", state)
	}
}
