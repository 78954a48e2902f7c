// Package witness speaks C2SP tlog-witness, both sides of it: it asks a witness
// to cosign a checkpoint of the audit log, and it is such a witness, for whoever
// wants to run one where neither the log's store nor its owner reaches.
//
// When which witness is asked, and what is made of its answers, is the loop's
// (package reconcile) and the store's.
package witness

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Config is the witnesses of the audit log, as rotunda.yaml names them.
type Config struct {
	// How many of the witnesses must have cosigned a checkpoint before it is
	// published. 0: it is published at once, with what cosignatures there are.
	Required int `yaml:"required,omitempty"`
	// Who is asked.
	Ask []Peer `yaml:"ask,omitempty"`
}

// Peer is a witness that is asked.
type Peer struct {
	// The name by which status and metrics show it. What the store knows of the
	// witness is kept under it, an alarm too.
	Name string `yaml:"name"`
	// Its public key, NAME+HASH+KEY, as who runs it says: an Ed25519 cosigner's.
	Key string `yaml:"key"`
	// Where it takes checkpoints: /add-checkpoint is put behind it. http is
	// enough where the network may see how large the log is: what counts is
	// signed.
	URL string `yaml:"url"`
}

// mostPeers keeps a checkpoint with all its cosignatures within what a
// checkpoint has room for.
const mostPeers = 16

// Cosigners are the keys of the witnesses, in their order.
func (c Config) Cosigners() ([]audit.Cosigner, error) {
	keys := make([]string, len(c.Ask))
	for i, peer := range c.Ask {
		keys[i] = peer.Key
	}
	return audit.NewCosigners(keys...)
}

// Validate says what is wrong with the settings.
func (c Config) Validate() error {
	if c.Required < 0 || c.Required > len(c.Ask) {
		return fault.New(fault.Invalid, "witnesses: %d are required, and %d are named", c.Required, len(c.Ask)).
			WithRemedy("name as many under witnesses.ask at least: no checkpoint would ever be published")
	}
	if len(c.Ask) > mostPeers {
		return fault.New(fault.Invalid, "witnesses.ask: %d are named, at most %d may be", len(c.Ask), mostPeers)
	}
	seen := map[string]bool{}
	for i, peer := range c.Ask {
		if err := peer.validate(); err != nil {
			return fault.Wrap(fault.Invalid, err, "witnesses.ask[%d]", i)
		}
		if seen[peer.Name] {
			return fault.New(fault.Invalid, "witnesses.ask[%d]: another witness is called %s", i, peer.Name)
		}
		seen[peer.Name] = true
	}
	if _, err := c.Cosigners(); err != nil {
		return fault.Wrap(fault.Invalid, err, "witnesses.ask")
	}
	return nil
}

func (p Peer) validate() error {
	if !isName(p.Name) {
		return fault.New(fault.Invalid, "name %q must be 1 to 63 of a-z, 0-9 and -", p.Name)
	}
	if _, err := audit.NewCosigner(p.Key); err != nil {
		return fault.Wrap(fault.Invalid, err, "key of %s", p.Name)
	}
	u, err := url.Parse(p.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fault.New(fault.Invalid, "url %q of %s must be https://HOST[/PATH], without a user, a query or a fragment", p.URL, p.Name).
			WithRemedy("it is what the witness calls its submission prefix, without /add-checkpoint")
	}
	return nil
}

// at is the URL of what the witness serves there.
func (p Peer) at(path string) string {
	return fmt.Sprintf("%s/%s", strings.TrimRight(p.URL, "/"), path)
}

func isName(name string) bool {
	for _, c := range name {
		if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= 63
}
