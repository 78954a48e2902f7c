package fleet

import (
	"net"
	"net/url"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// maxNotifyURL bounds a URL that notices are posted to.
const maxNotifyURL = 2000

// CheckNotifyURL says whether the server may post notices there: https, whose
// certificate is verified, or plain http that does not leave the host. Nothing
// secret stands in it: documents are read by everybody, and notices are signed.
func CheckNotifyURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case len(text) > maxNotifyURL:
		return fault.New(fault.Invalid, "a URL of %d characters; at most %d may be", len(text), maxNotifyURL)
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return fault.New(fault.Invalid, "%s is not an https URL", quote(text))
	case u.User != nil:
		return fault.New(fault.Invalid, "%s holds a user or a password: documents are no place for secrets", quote(u.Redacted())).
			WithRemedy("leave it out: notices are signed with the secret of rotunda.yaml")
	case u.Fragment != "":
		return fault.New(fault.Invalid, "%s has a fragment, which is never sent", quote(text))
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fault.New(fault.Invalid, "%s leaves the host in the plain", quote(text)).WithRemedy("write https, or http to a loopback address")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
