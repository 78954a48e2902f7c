package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// cosignatureV1 is the signature type of an Ed25519 cosigner's vkey (C2SP
// tlog-cosignature).
const cosignatureV1 = 4

// cosigner verifies a witness's cosignatures: a time, and an Ed25519 signature
// over it and the checkpoint.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }

// Verify implements note.Verifier for a checkpoint's text.
func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize || signature[0] >= 0x80 {
		return false
	}
	message := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
	return ed25519.Verify(c.key, message, signature[8:])
}

// NewCosigner returns the verifier of a witness by its vkey,
// "<name>+<hash>+<base64 of 0x04 and the public key>".
func NewCosigner(vkey string) (note.Verifier, error) {
	bad := fault.New(fault.Invalid, "witness key %.80q must be the vkey of an Ed25519 cosigner (type 04)", vkey).
		WithRemedy("it is one line like witness.example/w1+1a2b3c4d+BFk…; ask who runs the witness")
	name, rest, _ := strings.Cut(vkey, "+")
	hash, text, ok := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if !ok || err != nil || name == "" || strings.ContainsAny(name, " \t\n") || len(key) != 1+ed25519.PublicKeySize || key[0] != cosignatureV1 {
		return nil, bad
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	c := cosigner{name: name, hash: binary.BigEndian.Uint32(sum[:]), key: key[1:]}
	if given, err := strconv.ParseUint(hash, 16, 32); err != nil || len(hash) != 8 || uint32(given) != c.hash {
		return nil, bad
	}
	return c, nil
}

// Cosigners returns the names of those witnesses who cosigned a checkpoint.
// Lines of others, and those that do not verify, count for nothing.
func Cosigners(signed []byte, log note.Verifier, witnesses []note.Verifier) ([]string, error) {
	if _, err := OpenCheckpoint(signed, log.Name(), log); err != nil {
		return nil, err
	}
	var names []string
	for _, witness := range witnesses {
		// One at a time: a bad line of one must not hide another's good one.
		if n, err := note.Open(signed, note.VerifierList(witness)); err == nil && len(n.Sigs) == 1 {
			names = append(names, witness.Name())
		}
	}
	return names, nil
}
