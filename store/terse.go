package store

import (
	"bytes"
	"context"
	_ "embed" // the dictionaries
	"encoding/binary"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/terse"
)

// Records of which there are many are packed, one by one: certificates and audit
// entries are like each other for the most part. What is queried has columns of
// its own and stands there in plain. What was stored before the store was terse
// stays as it is, and both are read.
//
// The dictionaries are as fixed as migrations are: nothing can be read without the
// one by which it was packed. Entries' is part of this version. Certificates' ends
// with what the store has of who signed them, which never changes either, and which
// stays, since they refer to it.

// terseSchema is the schema from which on servers read what is packed. A store in
// which no server of a lower one may be is written so.
const terseSchema = 26

// The records that are like others, squeezed and quoted as Go does it, one a line.
var (
	//go:embed dictionary/1-entries.txt
	entriesAlike string
	//go:embed dictionary/1-certificates.txt
	certificatesAlike string
)

var squeezedCertificates = sync.OnceValues(func() ([]byte, error) { return unquoted(certificatesAlike) })

func unquoted(lines string) (all []byte, err error) {
	for line := range strings.Lines(lines) {
		record, err := strconv.Unquote(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a dictionary of packed records")
		}
		all = append(all, record...)
	}
	return all, nil
}

var entryDictionary = sync.OnceValues(func() (*terse.Dictionary, error) {
	alike, err := unquoted(entriesAlike)
	if err != nil {
		return nil, err
	}
	return terse.NewDictionary(alike)
})

// mostOfIssuer is how much of a certificate's issuer is in its dictionary, in bytes:
// more would be of no use, and some authorities are foreign.
const mostOfIssuer = 16 << 10

// certificateDictionary is for those that an authority signed.
func certificateDictionary(authorityID string, der []byte) (*terse.Dictionary, error) {
	alike, err := squeezedCertificates()
	if err != nil {
		return nil, err
	}
	return terse.NewDictionary(alike, der[:min(len(der), mostOfIssuer)], []byte("/ocsp/"+authorityID+"/ca/"+authorityID+".crt/crl/"+authorityID+"/"))
}

// signedBy is the dictionary for the certificates of an authority. A session keeps
// it once it is sure to stay: what this very transaction has added may be taken back.
func (tx *Tx) signedBy(ctx context.Context, authorityID string) (*terse.Dictionary, error) {
	if kept := tx.session.dictionaries[authorityID]; kept != nil {
		return kept, nil
	}
	authority, err := tx.Authority(ctx, authorityID)
	if err != nil {
		return nil, err
	}
	made, err := certificateDictionary(authorityID, authority.Certificate)
	if err == nil && (tx.readOnly || authority.CreatedAt.Before(tx.Now)) {
		tx.session.dictionaries[authorityID] = made
	}
	return made, err
}

// packed is the certificate as it is stored in few bytes.
func (tx *Tx) packed(ctx context.Context, c Certificate) (Certificate, error) {
	if len(c.DER) == 0 { // nothing is known of it
		return c, nil
	}
	d, err := tx.signedBy(ctx, c.AuthorityID)
	if fault.CodeOf(err) == fault.NotFound {
		return c, nil // and it is refused
	}
	if err != nil {
		return c, err
	}
	record := append(binary.AppendUvarint(tx.session.room[:0], uint64(len(c.Rule))), c.Rule...)
	record = append(binary.AppendUvarint(record, uint64(len(c.PolicyInput))), c.PolicyInput...)
	record = append(record, c.DER...)
	tx.session.room = record
	c.DER, c.PolicyInput, c.Rule = d.Pack(record, c.beside()...), nil, ""
	return c, nil
}

// beside is what the row has in plain, and its DER and what the policy saw have too.
func (c *Certificate) beside() [][]byte {
	const utcTime = "060102150405Z" // of DER
	all := make([]byte, 0, len(c.AgentID)+len(c.Serial)+len(c.Intent)+len(c.Names)+2*len(utcTime))
	all = append(append(append(append(all, c.AgentID...), c.Serial[:]...), c.Intent...), c.Names...)
	known := make([][]byte, 0, 8)
	cut := func(n int) {
		known = append(known, all[:n:n])
		all = all[n:]
	}
	cut(len(c.AgentID))
	cut(len(c.Serial))
	cut(len(c.Intent))
	names := all
	for _, at := range []time.Time{c.NotBefore, c.NotAfter} {
		known = append(known, at.UTC().AppendFormat(nil, utcTime))
	}
	for name := range bytes.SplitSeq(names, []byte{' '}) {
		known = append(known, name)
	}
	return known
}

// packedRecord is one that may be stored in few bytes.
type packedRecord interface {
	unpack(ctx context.Context, tx *Tx) error
}

// unpackAll makes whole what was read in few bytes.
func unpackAll[T any](ctx context.Context, tx *Tx, values []T) error {
	for i := range values {
		one, packs := any(&values[i]).(packedRecord)
		if !packs {
			return nil
		}
		if err := one.unpack(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Certificate) unpack(ctx context.Context, tx *Tx) error {
	if !terse.IsPacked(c.DER) {
		return nil
	}
	d, err := tx.signedBy(ctx, c.AuthorityID)
	if err == nil {
		err = c.unpackBy(d)
	}
	return thing{"certificate", c.Serial}.wrap(err)
}

func (c *Certificate) unpackBy(d *terse.Dictionary) error {
	record, err := d.Unpack(c.DER, c.beside()...)
	if err != nil {
		return err
	}
	rule, rest, ok := cutField(record)
	input, der, also := cutField(rest)
	if !ok || !also {
		return fault.New(fault.Internal, "what is packed is no certificate")
	}
	c.Rule, c.DER, c.PolicyInput = string(rule), der, nil
	if len(input) > 0 {
		c.PolicyInput = input
	}
	return nil
}

// pack makes ready what the log will have of an entry.
func (e *PendingEntry) pack() error {
	d, err := entryDictionary()
	if err == nil {
		e.packed = d.Pack(e.Content, []byte(e.ID))
	}
	return err
}

// unpack leaves what is damaged as it is stored: then its hash is not the one in
// the tree, and whoever verifies the log names it.
func (e *AuditEntry) unpack(context.Context, *Tx) error {
	if !terse.IsPacked(e.Content) {
		return nil
	}
	d, err := entryDictionary()
	if err != nil {
		return err
	}
	if content, err := d.Unpack(e.Content, []byte(e.ID)); err == nil {
		e.Content = content
	}
	return nil
}

// cutField cuts off bytes that stand behind their number.
func cutField(record []byte) (field, rest []byte, ok bool) {
	length, n := binary.Uvarint(record)
	if n <= 0 || length > uint64(len(record)-n) {
		return nil, nil, false
	}
	end := n + int(length)
	return record[n:end:end], record[end:], true
}

// BecomeTerse lets no server in that could not read what is packed, so that from
// now on it is: once none of those that were seen of late is of an older schema.
func (tx *Tx) BecomeTerse(ctx context.Context) error {
	_, err := tx.exec(ctx, `
		UPDATE store_meta SET min_server_schema = $1
		WHERE min_server_schema < $1 AND NOT EXISTS (SELECT 1 FROM server WHERE schema < $1)`, terseSchema)
	return theMeta.wrap(err)
}

// IsTerse says whether what is written is packed.
func (tx *Tx) IsTerse(ctx context.Context) (bool, error) {
	return value[bool](ctx, tx, theMeta, `SELECT min_server_schema >= $1 FROM store_meta`, terseSchema)
}
