package target_test

import (
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

func nginxStand(t *testing.T, opts targettest.NginxOptions) *stand {
	t.Helper()
	return newStand(t, fleet.TargetNginx, targettest.NginxAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Nginx(t, d, opts)
	})
}

func TestNginxTakesWhatItsRowSays(t *testing.T) {
	s := nginxStand(t, targettest.NginxOptions{})
	s.contacts("nginx 1.22.1")
	s.renews(fleet.Loaded)
	s.changesAnchors(fleet.Loaded)
}
