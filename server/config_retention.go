package server

import (
	"cmp"
	"time"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Retention is for how long what is over stays in the store, such as 90d or 36h;
// 0s: for ever. docs/operations.md says what stays whatever its age.
type Retention struct {
	// Records of certificates, after their ends. Then they go to archives, in the
	// directory below. At least 1d.
	Certificates *fleet.Duration `yaml:"certificates,omitempty"` // default 90d
	// What agents observed, but for the newest. At least 1d.
	Evidence *fleet.Duration `yaml:"evidence,omitempty"` // default 90d
	// Notices to owners of services, after they were sent. At least 1d.
	Notices *fleet.Duration `yaml:"notices,omitempty"` // default 90d
	// All signed checkpoints of the audit log; of those before, the last of each
	// day stays. At least 1d.
	Checkpoints *fleet.Duration `yaml:"checkpoints,omitempty"` // default 30d
	// Where archives lie: a directory in one that exists. Relative paths are in the
	// state directory.
	Archive string `yaml:"archive,omitempty"` // default archive
}

const (
	day           = fleet.Duration(24 * time.Hour)
	archiveByName = "archive"
)

// Keep is the retention as the control plane carries it out.
func (r Retention) Keep() control.Retention {
	return control.Retention{
		Certificates: keep(r.Certificates, 90*day), Evidence: keep(r.Evidence, 90*day),
		Notices: keep(r.Notices, 90*day), Checkpoints: keep(r.Checkpoints, 30*day),
	}
}

func keep(said *fleet.Duration, otherwise fleet.Duration) time.Duration {
	if said == nil {
		return otherwise.Std()
	}
	return said.Std()
}

func (r Retention) validate() error {
	for _, one := range []struct {
		name string
		said *fleet.Duration
	}{{"certificates", r.Certificates}, {"evidence", r.Evidence}, {"notices", r.Notices}, {"checkpoints", r.Checkpoints}} {
		if one.said != nil && *one.said != 0 && *one.said < day {
			return fault.New(fault.Invalid, "retention.%s: %s is less than a day", one.name, *one.said).
				WithRemedy("say 1d or more, or 0s to keep them for ever")
		}
	}
	return nil
}

// within makes the directory of archives a path that is absolute.
func (r *Retention) within(state string) {
	r.Archive = within(state, cmp.Or(r.Archive, archiveByName))
}
