package story

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/interop/table"
)

// Renewals renews twenty times, ten times with the key that is there and ten
// times with a new one.
func (s *Subject) Renewals(t *testing.T) {
	for n := range 20 {
		same := n < 10
		for _, m := range s.Members {
			before := s.leaf(t, m)
			s.renewIdentity(t, m)
			watch := s.clock(m)
			from := m.renew(t, func(d *api.DesiredPlacement) {
				d.Profile.KeyAge = durationpb.New(0)
				if same {
					d.Profile.KeyAge = d.Profile.Lifetime
				}
			})
			m.proven(t, from)
			watch()
			after := s.leaf(t, m)
			kept := string(before.RawSubjectPublicKeyInfo) == string(after.RawSubjectPublicKeyInfo)
			if kept != same {
				t.Errorf("%s: renewal %d: key kept: %v, wanted: %v", m.Name, n+1, kept, same)
			}
			s.Tally.Count(func(r *table.Row) { r.Renewals++ })
		}
	}
	for _, m := range s.Members {
		s.linked(t, m)
	}
}

// clock measures the next switch: from the moment at which the link leads to
// the new revision, when the target is about to be told, to the first handshake
// that shows another leaf. The function returned waits for that.
func (s *Subject) clock(m *Member) (wait func()) {
	before, err := m.Eye.Served(context.Background())
	done := make(chan struct{})
	started := false
	m.Host.OnReached(func(point string) {
		if started || !strings.HasPrefix(point, "activate: switched") {
			return
		}
		started = true
		began := time.Now()
		go func() {
			defer close(done)
			for time.Since(began) < limit {
				now, lookErr := m.Eye.Served(context.Background())
				if err == nil && lookErr == nil && !now[0].Equal(before[0]) {
					s.Tally.Served(time.Since(began))
					return
				}
				time.Sleep(2 * time.Millisecond) // the pace of looking, nothing is waited out
			}
		}()
	})
	return func() {
		m.Host.OnReached(nil)
		if started {
			<-done
		}
	}
}
