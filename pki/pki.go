// Package pki is the vocabulary of X.509 that the rest of Rotunda speaks:
// serials, fingerprints, key algorithms, names, bundles of anchors, chains.
//
// Every type here is valid by construction: bytes from outside pass one of the
// Parse functions once and are trusted from there on. The package is pure; it
// reads no clock and no file, and where it needs randomness it is given some.
package pki

import (
	"encoding/hex"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// parseHex fills out with exactly len(out) bytes of lower- or upper-case hex.
func parseHex(out []byte, what, text string) error {
	if len(text) != hex.EncodedLen(len(out)) {
		return fault.New(fault.Invalid, "%s has %d characters, it must be %d hexadecimal digits",
			what, len(text), hex.EncodedLen(len(out)))
	}
	if _, err := hex.Decode(out, []byte(strings.ToLower(text))); err != nil {
		return fault.New(fault.Invalid, "%s %q must be hexadecimal digits only", what, text)
	}
	return nil
}
