package audit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// maxProofLines is how many hashes a proof of C2SP tlog-witness has at most.
const maxProofLines = 63

// MaxAddCheckpoint bounds the body of add-checkpoint.
const MaxAddCheckpoint = 64 + maxProofLines*(hashText+1) + maxCheckpoint

// AddCheckpoint is what a witness is asked to cosign (C2SP tlog-witness): a
// signed checkpoint, and the proof that its log begins with the one of the old
// size, which the witness cosigned last.
type AddCheckpoint struct {
	Old    uint64
	Proof  []Hash
	Signed []byte
}

// Encode is the body of the request.
func (a AddCheckpoint) Encode() []byte {
	body := fmt.Appendf(nil, "old %d\n", a.Old)
	for _, hash := range a.Proof {
		body = append(base64.StdEncoding.AppendEncode(body, hash[:]), '\n')
	}
	return append(append(body, '\n'), a.Signed...)
}

// ParseAddCheckpoint reads a request's body. It looks at the form alone: the
// checkpoint's signature and the proof are for who knows the log.
func ParseAddCheckpoint(body []byte) (AddCheckpoint, error) {
	bad := func(what string) (AddCheckpoint, error) {
		return AddCheckpoint{}, fault.New(fault.Invalid, "add-checkpoint: %s", what)
	}
	if len(body) > MaxAddCheckpoint {
		return bad("the body is too large")
	}
	head, signed, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok || len(signed) == 0 || signed[len(signed)-1] != '\n' {
		return bad("wants the old size, a proof, an empty line and a checkpoint")
	}
	lines := bytes.Split(head, []byte{'\n'})
	text, ok := bytes.CutPrefix(lines[0], []byte("old "))
	old, isSize := ParseTreeSize(text)
	if !ok || !isSize {
		return bad("the first line must be the old size")
	}
	if len(lines)-1 > maxProofLines {
		return bad("the proof has more than 63 hashes")
	}
	request := AddCheckpoint{Old: old, Signed: signed}
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(string(line))
		if err != nil || hash.String() != string(line) {
			return bad("a line of the proof is no hash")
		}
		request.Proof = append(request.Proof, hash)
	}
	return request, nil
}

// ParseTreeSize reads the size of a tree in decimal, in the one form that C2SP
// has for it.
func ParseTreeSize(text []byte) (uint64, bool) {
	size, err := strconv.ParseUint(string(text), 10, 64)
	return size, err == nil && size <= math.MaxInt64 && strconv.FormatUint(size, 10) == string(text)
}

// OriginOf is what a signed checkpoint says that it is of, whoever signed it.
func OriginOf(signed []byte) string {
	origin, _, _ := bytes.Cut(signed, []byte{'\n'})
	return string(origin)
}
