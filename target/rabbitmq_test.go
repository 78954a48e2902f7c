package target_test

import (
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// TestRabbitMQ has one node for all its cases: it takes seconds to start.
func TestRabbitMQ(t *testing.T) {
	s := newStand(t, fleet.TargetRabbitMQ, targettest.RabbitMQAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.RabbitMQ(t, d, targettest.RabbitMQOptions{})
	})
	t.Run("what its row says", func(t *testing.T) {
		s.t = t
		s.contacts("rabbitmq 3.10.8")
		said, err := s.adapter.Says(t.Context(), targettest.Host(nil), s.Target)
		t.Log(said, err)
		s.changesAnchors(fleet.Loaded)
	})
	t.Run("a broken pair", func(t *testing.T) {
		s.t = t
		before := s.breaks()
		_, err := s.reload(target.Change{Leaf: true})
		t.Log(err)
		s.fails("a broken pair", err, fault.Invalid, "not the key of the certificate")
		s.serves(before)
	})
}
