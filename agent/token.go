package agent

import (
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// maxToken bounds the text of a token.
const maxToken = 2 << 10

var tokenID = regexp.MustCompile(`^[a-z0-9][-a-z0-9]{0,62}$`)

// Token is an enrolment token: leave to become an agent, and the pins by which
// the host knows the control plane before it trusts anything.
type Token struct {
	ID          string
	Secret      string // as it goes to the server
	Pin         [32]byte
	LogKey      string
	TrustDomain spiffeid.TrustDomain
}

// ParseToken reads the text that rotunda token create printed:
// "rt1.<id>.<secret>.<root's SHA-256, hex>.<base64url of the log's key>.<trust domain>".
// The error never quotes the secret.
func ParseToken(text string) (Token, error) {
	bad := func(rule string) (Token, error) {
		return Token{}, fault.New(fault.Invalid, "enrolment token: %s", rule).
			WithRemedy("copy the whole line that rotunda token create printed")
	}
	text = strings.TrimSpace(text)
	parts := strings.SplitN(text, ".", 6)
	if len(text) > maxToken || len(parts) != 6 || parts[0] != "rt1" {
		return bad("must have six parts, the first of them rt1")
	}
	t := Token{ID: parts[1], Secret: parts[2]}
	if !tokenID.MatchString(t.ID) {
		return bad("its id is malformed")
	}
	if secret, err := base64.RawURLEncoding.DecodeString(t.Secret); err != nil || len(secret) < 16 {
		return bad("its secret is malformed")
	}
	pin, err := hex.DecodeString(parts[3])
	if err != nil || len(pin) != len(t.Pin) {
		return bad("its pin of the root certificate is malformed")
	}
	copy(t.Pin[:], pin)
	key, err := base64.RawURLEncoding.DecodeString(parts[4])
	if err != nil {
		return bad("its key of the audit log is malformed")
	}
	t.LogKey = string(key)
	if t.TrustDomain, err = spiffeid.TrustDomainFromString(parts[5]); err != nil || t.TrustDomain.Name() != parts[5] {
		return bad("its trust domain is malformed")
	}
	verifier, err := note.NewVerifier(t.LogKey)
	if err != nil || verifier.Name() != audit.Origin(t.TrustDomain.Name()) {
		return bad("its key is not of the audit log of " + t.TrustDomain.Name())
	}
	return t, nil
}
