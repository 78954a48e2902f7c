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

// Cosigner verifies a witness's cosignatures: a time, and an Ed25519 signature
// over it and the checkpoint. It implements note.Verifier.
type Cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

// Name is the name of the witness's key.
func (c Cosigner) Name() string { return c.name }

// KeyHash is what tells the key apart from others of its name.
func (c Cosigner) KeyHash() uint32 { return c.hash }

// Verify says whether signature is the witness's over a checkpoint's text.
func (c Cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize || signature[0] >= 0x80 {
		return false
	}
	return ed25519.Verify(c.key, cosigned(text, binary.BigEndian.Uint64(signature)), signature[8:])
}

// cosigned is the message that a cosignature signs. It has no name in it, which
// is why one key under two names is one witness.
func cosigned(text []byte, seconds uint64) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", seconds, text)
}

// NewCosigner returns the verifier of a witness by its vkey,
// "<name>+<hash>+<base64 of 0x04 and the public key>".
func NewCosigner(vkey string) (Cosigner, error) {
	bad := fault.New(fault.Invalid, "witness key %.80q must be the vkey of an Ed25519 cosigner (type 04)", vkey).
		WithRemedy("it is one line like witness.example/w1+1a2b3c4d+BFk…; ask who runs the witness")
	name, rest, _ := strings.Cut(vkey, "+")
	hash, text, ok := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if !ok || err != nil || name == "" || len(name) > maxCosignerName || strings.ContainsAny(name, " \t\n") || len(key) != 1+ed25519.PublicKeySize || key[0] != cosignatureV1 {
		return Cosigner{}, bad
	}
	c := cosignerOf(name, key[1:])
	if given, err := strconv.ParseUint(hash, 16, 32); err != nil || len(hash) != 8 || uint32(given) != c.hash {
		return Cosigner{}, bad
	}
	return c, nil
}

func cosignerOf(name string, public ed25519.PublicKey) Cosigner {
	sum := sha256.Sum256(append([]byte(name+"\n"+string(rune(cosignatureV1))), public...))
	return Cosigner{name: name, hash: binary.BigEndian.Uint32(sum[:]), key: public}
}

// VerifierKey is the vkey that NewCosigner reads.
func (c Cosigner) VerifierKey() string {
	return fmt.Sprintf("%s+%08x+%s", c.name, c.hash, base64.StdEncoding.EncodeToString(append([]byte{cosignatureV1}, c.key...)))
}

// NewCosigners reads the vkeys of several witnesses, each of which counts once:
// the same key twice, under another name too, is refused.
func NewCosigners(vkeys ...string) ([]Cosigner, error) {
	var all []Cosigner
	for _, vkey := range vkeys {
		one, err := NewCosigner(vkey)
		if err != nil {
			return nil, err
		}
		for _, other := range all {
			if one.key.Equal(other.key) {
				return nil, fault.New(fault.Invalid, "witnesses %s and %s have one key, and count once", other.name, one.name).
					WithRemedy("name each witness once, by a key of its own")
			}
		}
		all = append(all, one)
	}
	return all, nil
}

// CosignedBy returns those of the witnesses who cosigned a checkpoint, and what
// they cosigned. Lines of others, and those that do not verify, count for
// nothing.
func CosignedBy(signed []byte, log note.Verifier, witnesses []Cosigner) (Checkpoint, []Cosigner, error) {
	cp, err := OpenCheckpoint(signed, log.Name(), log)
	if err != nil {
		return cp, nil, err
	}
	var by []Cosigner
	for _, witness := range witnesses {
		// One at a time: a bad line of one must not hide another's good one.
		if n, err := note.Open(signed, note.VerifierList(witness)); err == nil && len(n.Sigs) == 1 {
			by = append(by, witness)
		}
	}
	return cp, by, nil
}

// Cosigners returns the names of those witnesses who cosigned a checkpoint.
func Cosigners(signed []byte, log note.Verifier, witnesses []Cosigner) ([]string, error) {
	_, by, err := CosignedBy(signed, log, witnesses)
	var names []string
	for _, witness := range by {
		names = append(names, witness.Name())
	}
	return names, err
}
