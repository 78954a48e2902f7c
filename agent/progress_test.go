package agent

import (
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/rotation"
)

// The same step on the same facts is no progress; on other facts it is.
func TestProgress(t *testing.T) {
	var made progress
	again := rotation.Step{Action: rotation.Prove, Revision: 2, Reason: "in place"}
	check(t, made.next(rotation.Facts{Current: 1}, again))
	check(t, made.next(rotation.Facts{Current: 2}, again))
	err := made.next(rotation.Facts{Current: 1}, again)
	if err == nil || !strings.Contains(err.Error(), "prove of revision 2 was done and changed nothing") {
		t.Errorf("error %v", err)
	}
	for i := range uint64(maxSteps) {
		err = made.next(rotation.Facts{Current: 3 + i}, again)
	}
	if err == nil || !strings.Contains(err.Error(), "no end") {
		t.Errorf("error %v", err)
	}
}
