package control

import (
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// brokenSigner is a key that can't be used for now.
type brokenSigner struct{ note.Signer }

func (brokenSigner) Sign([]byte) ([]byte, error) { return nil, errors.New("the HSM is away") }

// A pass that could not be committed took nothing, so its loop does not go on
// at once.
func TestFailedPassTakesNothing(t *testing.T) {
	d := found(t)
	d.token(nil)
	signer := d.logSigner
	d.logSigner = brokenSigner{signer}
	taken, err := d.SequenceAudit(t.Context())
	if err == nil || taken != 0 {
		t.Errorf("%d taken, %v", taken, err)
	}
	d.logSigner = signer
	if taken, err = d.SequenceAudit(t.Context()); err != nil || taken == 0 {
		t.Errorf("%d taken, %v", taken, err)
	}
}
