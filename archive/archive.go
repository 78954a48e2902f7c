// Package archive keeps the records of certificates that have left the store:
// files of compressed lines of JSON, each described by a manifest that stands
// in the audit log.
//
// A file's name has the beginning of the SHA-256 of its bytes, so what is
// written again is the same file, and no write takes the place of another
// content. A file is believed only when its bytes have the hash that its
// manifest says: it then holds what it held when the log took the manifest.
package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Record is one line: all that the store knew of a certificate.
type Record struct {
	Serial      string    `json:"serial"` // hex of 16 bytes
	Kind        string    `json:"kind"`
	Authority   string    `json:"authority"` // id of the issuer
	Placement   string    `json:"placement,omitempty"`
	Generation  uint64    `json:"generation,omitempty"`
	Agent       string    `json:"agent,omitempty"`
	Operator    string    `json:"operator,omitempty"`
	Intent      string    `json:"intent,omitempty"`
	Names       string    `json:"names"`
	PolicyInput []byte    `json:"policyInput,omitempty"` // as it was stored
	Rule        string    `json:"rule,omitempty"`
	SPKI        string    `json:"spki"`
	Fingerprint string    `json:"fingerprint"`
	CRLShard    int       `json:"crlShard"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	IssuedAt    time.Time `json:"issuedAt"`
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
	Reason      string    `json:"reason,omitempty"` // of the revocation
	DER         []byte    `json:"der"`
}

// Manifest says what a file is. It is the detail of an audit entry.
type Manifest struct {
	File          string    `json:"file"`
	SHA256        string    `json:"sha256"` // of the compressed bytes
	Bytes         int64     `json:"bytes"`
	Count         int       `json:"count"`
	FirstSerial   string    `json:"firstSerial"` // the least
	LastSerial    string    `json:"lastSerial"`  // the greatest
	FirstNotAfter time.Time `json:"firstNotAfter"`
	LastNotAfter  time.Time `json:"lastNotAfter"`
}

// mostPlain bounds what one file decompresses to: far more than a batch has.
const mostPlain = 256 << 20

// mostLine bounds one record: a certificate of many names, and what the policy
// saw.
const mostLine = 4 << 20

// Pack puts records, in the order of their serials, into the bytes of a file.
func Pack(records []Record) (Manifest, []byte, error) {
	if len(records) == 0 {
		return Manifest{}, nil, errors.New("an archive of no certificates")
	}
	records = slices.SortedFunc(slices.Values(records), func(a, b Record) int { return strings.Compare(a.Serial, b.Serial) })
	var plain bytes.Buffer
	lines := json.NewEncoder(&plain)
	for _, record := range records {
		if err := lines.Encode(record); err != nil {
			return Manifest{}, nil, fmt.Errorf("encode the record of certificate %s: %w", record.Serial, err)
		}
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return Manifest{}, nil, err
	}
	packed := encoder.EncodeAll(plain.Bytes(), nil)
	return describe(packed, records), packed, nil
}

// describe makes the manifest of a file that holds these records.
func describe(packed []byte, records []Record) Manifest {
	sum := sha256.Sum256(packed)
	m := Manifest{
		SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(packed)), Count: len(records),
		FirstSerial: records[0].Serial, LastSerial: records[len(records)-1].Serial,
		FirstNotAfter: records[0].NotAfter, LastNotAfter: records[0].NotAfter,
	}
	for _, record := range records {
		if record.NotAfter.Before(m.FirstNotAfter) {
			m.FirstNotAfter = record.NotAfter
		}
		if record.NotAfter.After(m.LastNotAfter) {
			m.LastNotAfter = record.NotAfter
		}
	}
	m.File = "certificates-" + m.FirstNotAfter.UTC().Format("20060102") + "-" + m.SHA256[:32] + ".jsonl.zst"
	return m
}

// fileName is the form of the names that describe makes.
var fileName = regexp.MustCompile(`^certificates-[0-9]{8}-[0-9a-f]{32}\.jsonl\.zst$`)

// Unpack calls visit with each record of a file's bytes in whose line all the
// texts stand; with none, with each.
func Unpack(packed []byte, texts []string, visit func(Record) error) error {
	decoder, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(mostPlain))
	if err != nil {
		return err
	}
	defer decoder.Close()
	lines := bufio.NewScanner(io.LimitReader(decoder, mostPlain))
	lines.Buffer(nil, mostLine)
	for lines.Scan() {
		if slices.ContainsFunc(texts, func(text string) bool { return !bytes.Contains(lines.Bytes(), []byte(text)) }) {
			continue
		}
		var record Record
		if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
			return fault.Wrap(fault.Conflict, err, "archived record")
		}
		if err := visit(record); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fault.Wrap(fault.Conflict, err, "archived records")
	}
	return nil
}

// Recognise makes the manifest of a file's bytes again, from what they hold; the
// name must be the one that Pack gives them.
func Recognise(name string, packed []byte) (Manifest, []Record, error) {
	var records []Record
	err := Unpack(packed, nil, func(record Record) error {
		records = append(records, record)
		return nil
	})
	if err != nil {
		return Manifest{}, nil, err
	}
	if len(records) == 0 {
		return Manifest{}, nil, fault.New(fault.Conflict, "%s holds nothing", name)
	}
	if !slices.IsSortedFunc(records, func(a, b Record) int { return strings.Compare(a.Serial, b.Serial) }) {
		return Manifest{}, nil, fault.New(fault.Conflict, "%s is not in the order of its serials", name)
	}
	m := describe(packed, records)
	if m.File != name {
		return m, nil, fault.New(fault.Conflict, "%s holds what %s should", name, m.File)
	}
	return m, records, nil
}

// Same says whether two records are one, to the byte of their lines.
func (r Record) Same(other Record) bool {
	a, err := json.Marshal(r)
	b, bad := json.Marshal(other)
	return err == nil && bad == nil && bytes.Equal(a, b)
}
