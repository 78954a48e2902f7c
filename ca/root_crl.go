package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// RootCRLLife is how long the list of a root is good for. Its key is away, so a
// ceremony signs the next one: servers that read a CRL for each CA of a chain
// refuse everybody once this one has ended.
const RootCRLLife = 366 * 24 * time.Hour

// SignRootCRL signs the one list of a root, where its key is.
func SignRootCRL(now time.Time, root *x509.Certificate, key crypto.Signer, number int64, entries *Entries) ([]byte, error) {
	if !pki.KeyMatches(key, root) {
		return nil, fault.New(fault.Invalid, "the key is not that of the root %q", root.Subject)
	}
	next := now.Add(RootCRLLife)
	if next.After(root.NotAfter) {
		next = root.NotAfter
	}
	authority := &Authority{ID: root.Subject.CommonName, Certificate: root, signer: key}
	signed, err := authority.SignCRL(WholeList, CRLTerms{Number: number, This: now, Next: next}, entries)
	return signed.DER(), err
}

// CheckRootCRL tells whether a list that came from elsewhere is the root's, is
// of all that it revoked, and is good now.
func CheckRootCRL(now time.Time, root *x509.Certificate, der []byte) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "CRL of root %q", root.Subject)
	}
	refuse := func(format string, args ...any) error {
		return fault.Wrap(fault.Invalid, fault.New(fault.Invalid, format, args...), "CRL of root %q", root.Subject)
	}
	switch {
	case !bytes.Equal(list.RawIssuer, root.RawSubject):
		return nil, refuse("it was issued by %q", list.Issuer)
	case list.CheckSignatureFrom(root) != nil:
		return nil, refuse("it was signed by another key")
	case list.Number == nil || list.Number.Sign() <= 0 || !list.Number.IsInt64():
		return nil, refuse("its number must be positive, and fit 63 bits")
	case list.ThisUpdate.After(now.Add(authorityBackdate)):
		return nil, refuse("it is dated %s, which is in the future", stamp(list.ThisUpdate))
	case !list.NextUpdate.After(now):
		return nil, refuse("it ended at %s", stamp(list.NextUpdate))
	}
	for _, extension := range list.Extensions {
		if extension.Critical {
			return nil, refuse("it has the critical extension %s: a part of a list, or one that depends on others, is of no use here", extension.Id)
		}
	}
	return list, nil
}

// EntriesOf makes entries of a list's. ends says when the certificate of a
// serial ends; one that it does not know stays for ever.
func EntriesOf(list *x509.RevocationList, ends func(pki.Serial) time.Time) (*Entries, error) {
	entries := NewEntries(WholeList)
	for _, entry := range list.RevokedCertificateEntries {
		serial, err := pki.SerialOf(&x509.Certificate{SerialNumber: entry.SerialNumber})
		if err != nil {
			return nil, err
		}
		err = entries.Add(Revocation{Serial: serial, At: entry.RevocationTime, Reason: ReasonOf(entry.ReasonCode), Ends: ends(serial)})
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
}
