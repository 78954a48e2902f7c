package forensic

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/pki"
)

// member is a file of the tar.
type member struct {
	name    string
	content []byte
}

// Write writes the bundle.
func (b *Bundle) Write(w io.Writer) error {
	entries, err := b.entries()
	if err != nil {
		return err
	}
	members, err := b.members(entries)
	if err != nil {
		return err
	}
	list := manifest{Format: Format, Compromise: b.ID, Made: b.Made.UTC(), By: b.By, LogKey: b.LogKey}
	for _, one := range members {
		sum := sha256.Sum256(one.content)
		list.Files = append(list.Files, file{one.name, int64(len(one.content)), hex.EncodeToString(sum[:])})
	}
	first, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	compressed, err := zstd.NewWriter(w)
	if err != nil {
		return err
	}
	out := tar.NewWriter(compressed)
	for _, one := range append([]member{{manifestName, first}}, members...) {
		header := &tar.Header{Name: one.name, Mode: 0o600, Size: int64(len(one.content)), ModTime: b.Made.UTC().Truncate(time.Second)}
		if err := out.WriteHeader(header); err != nil {
			return fmt.Errorf("write %s of the bundle: %w", one.name, err)
		}
		if _, err := out.Write(one.content); err != nil {
			return fmt.Errorf("write %s of the bundle: %w", one.name, err)
		}
	}
	return errors.Join(out.Close(), compressed.Close())
}

// entries are the audit entries, read.
func (b *Bundle) entries() ([]audit.Entry, error) {
	var all []audit.Entry
	for _, exported := range b.Entries {
		entry, err := audit.Decode(exported.Content)
		if err != nil {
			return nil, fmt.Errorf("audit entry %d: %w", exported.Index, err)
		}
		all = append(all, entry)
	}
	return all, nil
}

func (b *Bundle) members(entries []audit.Entry) ([]member, error) {
	access, err := json.MarshalIndent(b.access(entries), "", "  ")
	if err != nil {
		return nil, err
	}
	log, err := b.exported()
	if err != nil {
		return nil, err
	}
	records, err := lines(b.Certificates)
	if err != nil {
		return nil, err
	}
	evidence, err := lines(b.Evidence)
	if err != nil {
		return nil, err
	}
	members := []member{
		{subjectName, b.Subject}, {timelineName, b.timeline(entries)}, {entriesName, log}, {evidenceName, evidence}, {accessName, access}, {recordsName, records},
	}
	written := map[string]bool{}
	for _, one := range b.Certificates {
		if !written[one.file()] {
			members = append(members, member{one.file(), pki.EncodeCertificatesPEM(one.DER)})
		}
		written[one.file()] = true
	}
	return members, nil
}

// exported are the entries as an export has them, but that some are left out.
func (b *Bundle) exported() ([]byte, error) {
	var out bytes.Buffer
	header := audit.ExportHeader{Format: audit.ExportFormat, LogKey: b.LogKey, Checkpoint: string(b.Checkpoint)}
	if err := json.NewEncoder(&out).Encode(header); err != nil {
		return nil, err
	}
	var line []byte
	for _, entry := range b.Entries {
		line = audit.AppendExported(line[:0], entry)
		out.Write(line)
	}
	return out.Bytes(), nil
}

func lines[T any](items []T) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	for _, item := range items {
		if err := encoder.Encode(item); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// timeline tells what happened, in the order of the log.
func (b *Bundle) timeline(entries []audit.Entry) []byte {
	var out bytes.Buffer
	for i, entry := range entries {
		fmt.Fprintf(&out, "%s  #%d  %-24s %-28s %s", entry.Time.UTC().Format("2006-01-02T15:04:05.000Z"), b.Entries[i].Index, actorName(entry.Actor), entry.Verb, entry.Object)
		if entry.Outcome != audit.Done {
			fmt.Fprintf(&out, "  %s: %s", entry.Outcome, oneLine(entry.Reason))
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func actorName(a audit.Actor) string {
	if a.ID == "" {
		return a.Kind
	}
	return a.Kind + "/" + a.ID
}

func (b *Bundle) access(entries []audit.Entry) Access {
	access := Access{Hosts: b.Hosts}
	for _, one := range b.Certificates {
		if one.Role == Operator {
			operator := actorIn(&access.Operators, "operator/"+one.Subject)
			operator.Serials = append(operator.Serials, one.Serial)
		}
	}
	for _, entry := range entries {
		actor := actorIn(&access.Actors, actorName(entry.Actor))
		at := entry.Time.UTC()
		if actor.First == nil {
			actor.First = &at
		}
		actor.Last = &at
		actor.Entries++
		if entry.Outcome != audit.Done {
			actor.Refused++
		}
		if serial := entry.Actor.Serial; serial != "" && !slices.Contains(actor.Serials, serial) {
			actor.Serials = append(actor.Serials, serial)
		}
	}
	return access
}

func actorIn(all *[]Actor, name string) *Actor {
	for i := range *all {
		if (*all)[i].Name == name {
			return &(*all)[i]
		}
	}
	*all = append(*all, Actor{Name: name})
	return &(*all)[len(*all)-1]
}
