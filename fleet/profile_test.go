package fleet

import (
	"math"
	"testing"
	"time"
)

// What is issued at one moment is spread widely enough by the defaults, and not
// by a window that opens late.
func TestCrowding(t *testing.T) {
	for name, c := range map[string]struct {
		renewAt, rideOut float64 // shares of the lifetime
		want             float64
	}{
		"the defaults":    {defaultProfile().RenewAt, 1. / 6, 2},
		"it opens late":   {0.66, 1. / 6, 4.308},
		"it just does":    {0.595, 1. / 6, 2.997},
		"half and nearly": {0.5, 0.499, 500.5},
		"no width":        {0.5, 0.5, math.Inf(1)},
		"less than none":  {0.5, 0.6, math.Inf(1)},
	} {
		p := &Profile{Lifetime: Duration(1000 * time.Hour), RenewAt: c.renewAt, RideOut: Duration(float64(1000*time.Hour) * c.rideOut)}
		if got := p.Crowding(); got != c.want && math.Abs(got-c.want) > 0.01*c.want {
			t.Errorf("%s: %v times the mean, want %v", name, got, c.want)
		}
	}
	if defaultProfile().RenewAt != 0.5 {
		t.Error("the default window is another")
	}
}
