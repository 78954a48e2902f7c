package target

import (
	"path/filepath"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// A server that was told to look for CRLs refuses everybody when it finds none,
// or none that is good. To take them away is therefore a matter of its
// configuration: it includes a file of the revision, which names the CRLs, or
// does not.

// SetsCRLAside says whether CRLs can be taken from such a server, by who has its
// directory alone.
func (c Capabilities) SetsCRLAside() bool { return c.CRLInclude != "" || c.CRL == Unknown }

// CRLConfig is what the server includes of a revision with CRLs, or without. nil:
// its kind includes nothing.
func (a Adapter) CRLConfig(t Target, present bool) []byte {
	return included(a.crlConfig, t.File("crl.pem"), "CRLs", present)
}

// StapleConfig is the same of a response to staple: there is none beside a new
// certificate at first, nor beside one that was revoked, and what is told to
// staple a file that is not there loads nothing.
func (a Adapter) StapleConfig(t Target, present bool) []byte {
	return included(a.stapleConfig, t.File("staple.der"), "response to staple", present)
}

func included(line func(string) string, path, what string, present bool) []byte {
	switch {
	case line == nil:
		return nil
	case !present:
		return []byte("# no " + what + "\n")
	}
	return []byte(line(path) + "\n")
}

// takesCRL says whether the placement has CRLs now that the server is to read.
func (t Target) takesCRL() bool { return t.CRL != "" && t.placed("crl.pem") }

// checkCRL holds the path of the CRLs that a server reads, and where that setting
// comes from, against this target's.
func (t Target) checkCRL(product, path, from, setting, include string) error {
	switch {
	case path == "":
		return fault.New(fault.Invalid, "target %s: its profile asks for CRLs, and %s reads none: a revoked client is served", t.Name, product).
			WithRemedy("write %s into its configuration, and reload it", t.include(setting, include))
	case !t.follows(path, "crl.pem"):
		return fault.New(fault.Invalid, "target %s: %s reads its CRLs from %q, which is not this target's", t.Name, product, path).
			WithRemedy("write %s into its configuration, and reload it", t.include(setting, include))
	case t.CRL == fleet.StaleOpen && !t.follows(from, "crl.conf"):
		return fault.New(fault.Invalid, "target %s: its profile says that CRLs are set aside before they end (onStale: open), and %s names them in %q, which the agent does not write", t.Name, product, from).
			WithRemedy("write %s there in the place of it, and reload it; or say onStale: closed", include)
	}
	return nil
}

func (t Target) include(setting, include string) string {
	if t.CRL == fleet.StaleOpen {
		return include
	}
	return setting
}

// absolute is a path as a server in that directory takes it.
func absolute(path, dir string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
