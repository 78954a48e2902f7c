package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// maxCosignerName keeps a line short of what a checkpoint has room for.
const maxCosignerName = 128

// CosigningKey is the key by which a witness cosigns checkpoints.
type CosigningKey struct {
	name    string
	private ed25519.PrivateKey
}

// NewCosigningKey makes the key of a witness. The name should be a URL without
// its scheme, such as witness.example/w1.
func NewCosigningKey(name string) (CosigningKey, error) {
	if name == "" || len(name) > maxCosignerName || strings.ContainsFunc(name, func(r rune) bool { return r == '+' || unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return CosigningKey{}, fault.New(fault.Invalid, "name %.150q of a witness must be 1 to %d characters, without spaces and +", name, maxCosignerName).
			WithRemedy("take a URL without its scheme, such as witness.example/w1")
	}
	_, private, err := ed25519.GenerateKey(nil)
	return CosigningKey{name, private}, err
}

// SecretKey is the key in the text form that ReadCosigningKey reads: a signer
// key of package note's, of the type of cosigners.
func (k CosigningKey) SecretKey() string {
	verifier := k.Cosigner()
	return fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", k.name, verifier.hash, base64.StdEncoding.EncodeToString(append([]byte{cosignatureV1}, k.private.Seed()...)))
}

// ReadCosigningKey reads what SecretKey returned.
func ReadCosigningKey(text string) (CosigningKey, error) {
	parts := strings.SplitN(strings.TrimSpace(text), "+", 5)
	bad := fault.New(fault.Invalid, "the witness's secret key is malformed").
		WithRemedy("it is one line like PRIVATE+KEY+witness.example/w1+1a2b3c4d+BFk…; make one with rotunda audit witness key")
	if len(parts) != 5 || parts[0] != "PRIVATE" || parts[1] != "KEY" {
		return CosigningKey{}, bad
	}
	seed, err := base64.StdEncoding.Strict().DecodeString(parts[4])
	if err != nil || len(seed) != 1+ed25519.SeedSize || seed[0] != cosignatureV1 {
		return CosigningKey{}, bad
	}
	k := CosigningKey{parts[2], ed25519.NewKeyFromSeed(seed[1:])}
	if k.name == "" || k.SecretKey() != strings.TrimSpace(text) {
		return CosigningKey{}, bad
	}
	return k, nil
}

// Cosigner verifies what the key signs.
func (k CosigningKey) Cosigner() Cosigner {
	return cosignerOf(k.name, k.private.Public().(ed25519.PublicKey))
}

// Cosign is the line by which the witness says that, at that time, the
// checkpoint is the newest that it has seen of its log.
func (k CosigningKey) Cosign(c Checkpoint, now time.Time) []byte {
	seconds := uint64(max(now.Unix(), 0))
	signature := binary.BigEndian.AppendUint32(nil, k.Cosigner().hash)
	signature = binary.BigEndian.AppendUint64(signature, seconds)
	signature = append(signature, ed25519.Sign(k.private, cosigned([]byte(c.text()), seconds))...)
	return signatureLine(k.name, base64.StdEncoding.EncodeToString(signature))
}

func signatureLine(name, signature string) []byte {
	return fmt.Appendf(nil, "— %s %s\n", name, signature)
}

// Cosignature is a witness's line below a checkpoint, and the time by the
// witness's clock that it holds.
type Cosignature struct {
	Line []byte
	At   time.Time
}

// ReadCosignature finds a witness's cosignature of a signed checkpoint among
// lines that somebody sent: signature lines and nothing else. Those of others
// are passed over; a line of the witness that does not verify is an error.
func ReadCosignature(signed, lines []byte, witness Cosigner) (Cosignature, error) {
	bad := fault.New(fault.Invalid, "the answer of witness %s is not lines of signatures", witness.name)
	if len(lines) > maxCheckpoint || len(lines) == 0 || lines[len(lines)-1] != '\n' {
		return Cosignature{}, bad
	}
	for line := range strings.Lines(string(lines)) {
		if !strings.HasPrefix(line, "— ") {
			return Cosignature{}, bad
		}
	}
	text, _, _ := strings.Cut(string(signed), "\n\n")
	n, err := note.Open([]byte(text+"\n\n"+string(lines)), note.VerifierList(witness))
	if _, unverified := errors.AsType[*note.UnverifiedNoteError](err); unverified {
		return Cosignature{}, fault.New(fault.Invalid, "witness %s sent no cosignature by its key", witness.name)
	}
	if err != nil || len(n.Sigs) != 1 {
		return Cosignature{}, fault.New(fault.Invalid, "the cosignature that witness %s sent is not one of this checkpoint by its key", witness.name)
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64)
	if err != nil { // else there were two spellings of one signature
		return Cosignature{}, bad
	}
	at := time.Unix(int64(binary.BigEndian.Uint64(signature[4:])), 0).UTC()
	return Cosignature{signatureLine(n.Sigs[0].Name, n.Sigs[0].Base64), at}, nil
}
