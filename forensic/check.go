package forensic

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Bounds on what is read of a bundle from elsewhere.
const (
	mostMembers = 100_000
	mostBytes   = 2 << 30
	mostWindow  = 64 << 20
)

// Report is what a check has found to be so.
type Report struct {
	Compromise   string    `json:"compromise"`
	Made         time.Time `json:"made"`
	By           string    `json:"by"`
	Files        int       `json:"files"`
	TreeSize     uint64    `json:"treeSize"` // of the log that the entries are proven to be in
	Entries      int       `json:"entries"`
	Certificates int       `json:"certificates"`
	Affected     int       `json:"affected"`
	Evidence     int       `json:"evidence"`
	// Affected certificates whose issuance is in none of the entries: nothing that
	// we issue goes unrecorded, so these were not issued here, or the bundle was made
	// without their entries.
	Unrecorded []string `json:"unrecorded,omitempty"`
}

// Check reads a bundle to its end and checks all of it: that each file is there and
// as the manifest says, that each entry is in the log of the pinned key, that each
// certificate is the one that its record names and signed by an authority in the
// bundle, and that each observation is signed by an identity of its observer.
func Check(in io.Reader, log note.Verifier) (Report, error) {
	list, members, err := read(in)
	if err != nil {
		return Report{}, err
	}
	report := Report{Compromise: list.Compromise, Made: list.Made, By: list.By, Files: len(list.Files)}
	issued, err := checkEntries(members[entriesName], log, &report)
	if err != nil {
		return report, err
	}
	observers, err := checkCertificates(members, issued, &report)
	if err != nil {
		return report, err
	}
	return report, checkEvidence(members[evidenceName], observers, &report)
}

// read takes a bundle apart and holds each file to the manifest.
func read(in io.Reader) (manifest, map[string][]byte, error) {
	var list manifest
	decompressed, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(mostWindow))
	if err != nil {
		return list, nil, fault.Wrap(fault.Invalid, err, "the bundle")
	}
	defer decompressed.Close()
	members := map[string][]byte{}
	archive, left := tar.NewReader(decompressed), int64(mostBytes)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return list, nil, fault.Wrap(fault.Invalid, err, "the bundle is no tar compressed by zstd, or is cut off")
		}
		if left -= header.Size; left < 0 || len(members) == mostMembers {
			return list, nil, fault.New(fault.Invalid, "the bundle is larger than any that is read: %d bytes, %d files", int64(mostBytes), mostMembers)
		}
		if _, twice := members[header.Name]; twice {
			return list, nil, fault.New(fault.Conflict, "file %q stands in the bundle twice", header.Name)
		}
		if members[header.Name], err = io.ReadAll(archive); err != nil {
			return list, nil, fault.Wrap(fault.Invalid, err, "file %q of the bundle", header.Name)
		}
	}
	if err := json.Unmarshal(members[manifestName], &list); err != nil || list.Format != Format {
		return list, nil, fault.New(fault.Invalid, "it has no manifest of %s", Format)
	}
	for _, one := range list.Files {
		content, ok := members[one.Name]
		sum := sha256.Sum256(content)
		if !ok || int64(len(content)) != one.Size || hex.EncodeToString(sum[:]) != one.SHA256 {
			return list, nil, fault.New(fault.Conflict, "file %q is not as the manifest says, or is missing", one.Name)
		}
	}
	if len(members) != len(list.Files)+1 {
		return list, nil, fault.New(fault.Conflict, "the bundle has %d files, its manifest names %d", len(members)-1, len(list.Files))
	}
	return list, members, nil
}

// checkEntries returns the serials that the entries say were issued.
func checkEntries(content []byte, log note.Verifier, report *Report) (map[string]bool, error) {
	head, rest, _ := bytes.Cut(content, []byte("\n"))
	var header audit.ExportHeader
	if err := json.Unmarshal(head, &header); err != nil || header.Format != audit.ExportFormat {
		return nil, fault.New(fault.Invalid, "%s has no header of %s", entriesName, audit.ExportFormat)
	}
	checkpoint, err := audit.OpenCheckpoint([]byte(header.Checkpoint), log.Name(), log)
	if err != nil {
		return nil, fault.Wrap(fault.Conflict, err, "the checkpoint is not signed by the pinned log key")
	}
	report.TreeSize = checkpoint.Size
	inclusions := audit.NewInclusions(checkpoint)
	mentioned := map[string]bool{}
	for len(rest) > 0 {
		line := rest
		if end := bytes.IndexByte(rest, '\n'); end >= 0 {
			line = rest[:end+1]
		}
		rest = rest[len(line):]
		entry, err := audit.ParseExported(line, nil)
		if err != nil {
			return nil, fault.Wrap(fault.Conflict, err, "line %d of %s", report.Entries+2, entriesName)
		}
		if audit.LeafHash(entry.Content) != entry.Leaf {
			return nil, fault.New(fault.Conflict, "entry %d: its content does not have its leaf hash", entry.Index)
		}
		if err := inclusions.Check(entry.Proof, entry.Index, entry.Leaf); err != nil {
			return nil, fault.Wrap(fault.Conflict, err, "entry %d", entry.Index)
		}
		Tokens(entry.Content, func(token string) { mentioned[token] = true })
		report.Entries++
	}
	return mentioned, nil
}

// checkCertificates returns the keys by which each agent could sign.
func checkCertificates(members map[string][]byte, mentioned map[string]bool, report *Report) (map[string][]*x509.Certificate, error) {
	var authorities []*x509.Certificate
	var others []Certificate
	parsed := map[string]*x509.Certificate{}
	err := eachLine(members[recordsName], func(one Certificate) error {
		certificates, err := pki.ParseCertificatesPEM(members[one.file()])
		if err != nil || len(certificates) != 1 {
			return fault.New(fault.Conflict, "%s does not hold one certificate", one.file())
		}
		serial, err := pki.SerialOf(certificates[0])
		if err != nil || serial.String() != one.Serial {
			return fault.New(fault.Conflict, "%s is not of serial %s", one.file(), one.Serial)
		}
		report.Certificates++
		if one.Role == Authority {
			authorities = append(authorities, certificates[0])
			return nil
		}
		parsed[one.file()] = certificates[0]
		others = append(others, one)
		return nil
	})
	if err != nil {
		return nil, err
	}
	observers := map[string][]*x509.Certificate{}
	for _, one := range others {
		certificate := parsed[one.file()]
		if !signedByAny(certificate, authorities) {
			return nil, fault.New(fault.Conflict, "certificate %s is signed by none of the authorities in the bundle", one.Serial)
		}
		switch one.Role {
		case Observer:
			observers[one.Agent] = append(observers[one.Agent], certificate)
		case Affected:
			report.Affected++
			if !mentioned[one.Serial] {
				report.Unrecorded = append(report.Unrecorded, one.Serial)
			}
		}
	}
	return observers, nil
}

func signedByAny(certificate *x509.Certificate, authorities []*x509.Certificate) bool {
	for _, authority := range authorities {
		if bytes.Equal(certificate.RawIssuer, authority.RawSubject) && certificate.CheckSignatureFrom(authority) == nil {
			return true
		}
	}
	return false
}

func checkEvidence(content []byte, observers map[string][]*x509.Certificate, report *Report) error {
	return eachLine(content, func(one Evidence) error {
		sum := sha256.Sum256(one.Statement)
		if hex.EncodeToString(sum[:]) != one.Digest {
			return fault.New(fault.Conflict, "evidence %s: its statement has another digest", one.Digest)
		}
		report.Evidence++
		for _, certificate := range observers[one.Observer] {
			if pki.VerifyStatement(certificate.PublicKey, one.Statement, one.Signature) {
				return nil
			}
		}
		return fault.New(fault.Conflict, "evidence %s is signed by no identity of agent %s in the bundle", one.Digest, one.Observer)
	})
}

func eachLine[T any](content []byte, do func(T) error) error {
	decoder := json.NewDecoder(bytes.NewReader(content))
	for n := 1; ; n++ {
		var item T
		if err := decoder.Decode(&item); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fault.Wrap(fault.Conflict, err, "line %d of a file of the bundle", n)
		}
		if err := do(item); err != nil {
			return err
		}
	}
}

// Tokens hands the words of an entry's JSON to take: what identifies something
// in an entry (an id, a serial, "Service/orders") is one, and a name after a slash
// is one more.
func Tokens(content []byte, take func(string)) {
	start := -1
	slash := -1
	for i := 0; i <= len(content); i++ {
		if i < len(content) && inToken(content[i]) {
			if start < 0 {
				start = i
			}
			if content[i] == '/' {
				slash = i
			}
			continue
		}
		if start >= 0 {
			take(string(content[start:i]))
			if slash > start && slash+1 < i {
				take(string(content[slash+1 : i]))
			}
		}
		start, slash = -1, -1
	}
}

func inToken(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_' || c == '.' || c == '/'
}
