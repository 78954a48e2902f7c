package server

import (
	"cmp"
	"time"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// What a server does while the store that it shares is away.
const (
	OutageRefuse = "refuse"
	OutageSpool  = "spool"
)

// Spool is how far onStoreOutage: spool goes.
type Spool struct {
	// Where it is kept. Relative paths are in the state directory.
	Directory string `yaml:"directory,omitempty"` // default spool
	// How long since the last contact with the store certificates are renewed
	// without it, between a minute and eight hours: for as long any identity of an
	// agent or a server is good, which are not renewed meanwhile.
	For fleet.Duration `yaml:"for,omitempty"` // default 4h
	// How many certificates, at most a million.
	Most int `yaml:"most,omitempty"` // default 10000
}

const (
	spoolByName      = "spool"
	defaultSpoolFor  = fleet.Duration(4 * time.Hour)
	longestSpoolFor  = fleet.Duration(serverLife - serverRenew)
	defaultSpoolMost = 10_000
	mostSpooled      = 1_000_000
)

// Spooling is what the control plane does while its store is away.
func (c Config) Spooling() control.Spooling {
	return control.Spooling{
		Dir: c.Spool.Directory, On: c.OnStoreOutage == OutageSpool,
		For: cmp.Or(c.Spool.For, defaultSpoolFor).Std(), Most: cmp.Or(c.Spool.Most, defaultSpoolMost),
	}
}

func (c Config) validateSpool() error {
	switch c.OnStoreOutage {
	case "", OutageRefuse:
		if c.Spool != (Spool{}) {
			return fault.New(fault.Invalid, "spool, and nothing is spooled").WithRemedy("say onStoreOutage: spool beside it, or remove it")
		}
		return nil
	case OutageSpool:
	default:
		return fault.New(fault.Invalid, "onStoreOutage: %.80q: it is refuse or spool", c.OnStoreOutage)
	}
	switch {
	case !store.IsURL(c.Store):
		return fault.New(fault.Invalid, "onStoreOutage: spool, and the store is a file of this server alone").
			WithRemedy("leave onStoreOutage out, or share a PostgreSQL database")
	case c.Spool.For != 0 && (c.Spool.For < fleet.Duration(time.Minute) || c.Spool.For > longestSpoolFor):
		return fault.New(fault.Invalid, "spool.for: %s is not between 1m and 8h", c.Spool.For)
	case c.Spool.Most < 0 || c.Spool.Most > mostSpooled:
		return fault.New(fault.Invalid, "spool.most: %d is not between 1 and %d", c.Spool.Most, mostSpooled)
	}
	return nil
}
