package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// An export is a log as lines of JSON, to be checked where no server is: a
// header, a line for each checkpoint, a line for each entry in order. An
// entry's line has its exact bytes under "content" and its inclusion proof to
// the header's checkpoint. There is one way to write it, so that a changed byte
// is a changed export.

// ExportFormat is what an export's header says that it is.
const ExportFormat = "rotunda-audit-export/v1"

// maxExportLine bounds a line: an entry, 64 hashes, and names.
const maxExportLine = MaxEntry + 8<<10

// ExportHeader is the first line of an export.
type ExportHeader struct {
	Format     string `json:"format"`
	LogKey     string `json:"logKey"`     // what the exporter verified with; who verifies pins his own
	Checkpoint string `json:"checkpoint"` // the signed note that all proofs lead to
	More       int    `json:"more"`       // checkpoints in the lines that follow
}

// ExportCheckpoint is the line of one more checkpoint.
type ExportCheckpoint struct {
	Checkpoint string `json:"checkpoint"`
}

// Exported is one entry of an export.
type Exported struct {
	Index   uint64
	Leaf    Hash
	Proof   []Hash
	Content []byte
}

// AppendExported writes an entry's line, with its newline.
func AppendExported(b []byte, e Exported) []byte {
	b = append(b, `{"index":`...)
	b = strconv.AppendUint(b, e.Index, 10)
	b = append(b, `,"leafHash":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.Leaf[:])
	b = append(b, `","proof":[`...)
	for i, hash := range e.Proof {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, hash[:])
		b = append(b, '"')
	}
	b = append(b, `],"content":`...)
	b = append(b, e.Content...)
	return append(b, "}\n"...)
}

const hashText = (HashSize + 2) / 3 * 4 // of a hash in base64

// ParseExported reads what AppendExported wrote and nothing else. Content
// shares the line's memory; proof is where the hashes go, to be used again.
func ParseExported(line []byte, proof []Hash) (Exported, error) {
	bad := fault.New(fault.Invalid, "the line is not as an export has it")
	e := Exported{Proof: proof[:0]}
	rest, ok := bytes.CutPrefix(line, []byte(`{"index":`))
	if !ok {
		return e, bad
	}
	number, rest, _ := bytes.Cut(rest, []byte(`,"leafHash":"`))
	var err error
	if e.Index, err = strconv.ParseUint(string(number), 10, 63); err != nil || strconv.FormatUint(e.Index, 10) != string(number) {
		return e, bad
	}
	if rest, ok = cutHash(rest, &e.Leaf); !ok {
		return e, bad
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`","proof":[`)); !ok {
		return e, bad
	}
	for len(rest) > 0 && rest[0] == '"' {
		var hash Hash
		if rest, ok = cutHash(rest[1:], &hash); !ok || len(e.Proof) == 64 {
			return e, bad
		}
		e.Proof = append(e.Proof, hash)
		if rest, ok = bytes.CutPrefix(rest, []byte{'"'}); !ok {
			return e, bad
		}
		if more, ok := bytes.CutPrefix(rest, []byte{','}); ok {
			if rest = more; len(rest) == 0 || rest[0] != '"' {
				return e, bad
			}
		}
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`],"content":`)); !ok {
		return e, bad
	}
	if e.Content, ok = bytes.CutSuffix(rest, []byte("}\n")); !ok {
		return e, bad
	}
	return e, nil
}

func cutHash(text []byte, into *Hash) (rest []byte, ok bool) {
	if len(text) < hashText {
		return nil, false
	}
	var room [HashSize + 1]byte
	n, err := base64.StdEncoding.Strict().Decode(room[:], text[:hashText])
	if err != nil || n != HashSize {
		return nil, false
	}
	*into = Hash(room[:])
	return text[hashText:], true
}

// parseStrict reads a line that encoding/json wrote, in that very form.
func parseStrict(line []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("the line is not as an export has it: %w", err)
	}
	again, err := json.Marshal(into)
	if err == nil && !bytes.Equal(append(again, '\n'), line) {
		err = fault.New(fault.Invalid, "the line is not as an export has it")
	}
	return err
}
