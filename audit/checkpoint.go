package audit

import (
	"crypto/rand"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// maxCheckpoint bounds a signed checkpoint: three lines and some signatures.
const maxCheckpoint = 8 << 10

// Checkpoint is the state of the log at a size: C2SP tlog-checkpoint without
// extension lines.
type Checkpoint struct {
	Origin string // "<trust domain>/audit"
	Size   uint64
	Root   Hash
}

// Origin is the origin of a trust domain's log, and the name of its key.
func Origin(trustDomain string) string { return trustDomain + "/audit" }

// NewLogKey makes an Ed25519 key for a log. Both halves are in the text form
// of package note; the first is secret.
func NewLogKey(name string) (skey, vkey string, err error) {
	return note.GenerateKey(rand.Reader, name)
}

// Sign is the checkpoint as a signed note. The signer's name must be the
// origin.
func (c Checkpoint) Sign(signer note.Signer) ([]byte, error) {
	if signer.Name() != c.Origin {
		return nil, fault.New(fault.Invalid, "checkpoint of %q: must not be signed by the key of %q", c.Origin, signer.Name())
	}
	msg, err := note.Sign(&note.Note{Text: c.text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return msg, nil
}

func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// OpenCheckpoint reads a signed note, checks v's signature and that it is a
// checkpoint of origin. Signatures by other keys (cosigners) are passed over.
func OpenCheckpoint(msg []byte, origin string, v note.Verifier) (Checkpoint, error) {
	if len(msg) > maxCheckpoint {
		return Checkpoint{}, fault.New(fault.Invalid, "checkpoint: %d bytes, at most %d are allowed", len(msg), maxCheckpoint)
	}
	if v.Name() != origin {
		return Checkpoint{}, fault.New(fault.Invalid, "checkpoint of %q: can't be verified by the key of %q", origin, v.Name())
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fault.Wrap(fault.Invalid, err, "checkpoint of %q", origin)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, fault.Wrap(fault.Invalid, err, "checkpoint of %q", origin)
	}
	if c.Origin != origin {
		return Checkpoint{}, fault.New(fault.Invalid, "checkpoint of %q: wanted one of %q", c.Origin, origin)
	}
	return c, nil
}

// Bare is a signed checkpoint with v's signature alone: those of others are left
// out.
func Bare(msg []byte, v note.Verifier) ([]byte, error) {
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "checkpoint of %q", v.Name())
	}
	return note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs})
}

func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("must have the three lines origin, size, root")
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || size > math.MaxInt64 {
		return Checkpoint{}, fmt.Errorf("size %q is no number of entries", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("root %q is no hash", lines[2])
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: root}
	if c.text() != text {
		return Checkpoint{}, fmt.Errorf("not in the canonical form")
	}
	return c, nil
}
