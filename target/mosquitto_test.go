package target_test

import (
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

func mosquittoStand(t *testing.T) *stand {
	t.Helper()
	s := newStand(t, fleet.TargetMosquitto, targettest.MosquittoAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Mosquitto(t, d, targettest.MosquittoOptions{})
	})
	s.late = true // it has no word of its own
	return s
}

func TestMosquittoTakesWhatItsRowSays(t *testing.T) {
	s := mosquittoStand(t)
	s.contacts("mosquitto 2.0.11")
	for _, order := range []targettest.Order{{Key: s.leaf.Key}, {}, {}} {
		s.deliver(s.a.Issue(t, order), s.a.Root)
		s.loads(target.Change{Leaf: true}, fleet.Delivered)
		s.serves(s.leaf)
	}
}

func TestMosquittoAstray(t *testing.T) {
	s := mosquittoStand(t)
	s.wrongPIDFiles()
	_, err := s.adapter.Contact(t.Context(), targettest.Host(nil), s.without(func(c *target.Control) { c.Program = targettest.Binary(t, "nginx") }))
	s.fails("contact", err, fault.Invalid, "does not say that it is mosquitto")
	_, err = s.adapter.Contact(t.Context(), targettest.Host(nil), s.without(func(c *target.Control) { c.Program = "/none" }))
	s.fails("contact", err, fault.Invalid, "does not say that it is mosquitto", "no such file")
	s.frozen(fleet.Delivered)
	s.away()
}
