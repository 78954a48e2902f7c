package control

import (
	"os"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// A pass that could not be committed took nothing, so its loop does not go on
// at once.
func TestFailedPassTakesNothing(t *testing.T) {
	d := found(t)
	d.token(nil)
	if err := os.Rename(d.path, d.path+".away"); err != nil {
		t.Fatal(err)
	}
	taken, err := d.SequenceAudit(t.Context())
	wantCode(t, err, fault.Unavailable)
	if taken != 0 {
		t.Errorf("%d taken", taken)
	}
	if err := os.Rename(d.path+".away", d.path); err != nil {
		t.Fatal(err)
	}
	if taken, err = d.SequenceAudit(t.Context()); err != nil || taken == 0 {
		t.Errorf("%d taken, %v", taken, err)
	}
}
