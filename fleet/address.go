package fleet

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)

// checkAddress says whether text is host:port.
func checkAddress(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fault.New(fault.Invalid, "address %s must be host:port", quote(text))
	}
	if _, err := netip.ParseAddr(host); err != nil && !hostForm.MatchString(host) {
		return fault.New(fault.Invalid, "address %s: %s is neither an IP address nor a host name", quote(text), quote(host))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fault.New(fault.Invalid, "address %s: the port must be a number from 1 to 65535", quote(text))
	}
	return nil
}

// accountForm is what useradd takes, or a number.
var accountForm = regexp.MustCompile(`^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})$`)
