package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// MaxCRLs is the most lists that one file may hold.
const MaxCRLs = 256

// listsAhead is how far a list may be dated ahead of this host's clock.
const listsAhead = 5 * time.Minute

// CRLs is what stands in one file: a complete list of each authority of a chain,
// the root's included. The zero value is none.
type CRLs struct {
	lists  []*x509.RevocationList
	digest Fingerprint
}

// ParseCRLs reads a list from each element. They are complete: of a part, or a
// list that depends on another, a reader of one file could make nothing.
func ParseCRLs(ders [][]byte) (CRLs, error) {
	if len(ders) == 0 || len(ders) > MaxCRLs {
		return CRLs{}, fault.New(fault.Invalid, "%d CRLs for one file; there must be 1 to %d", len(ders), MaxCRLs)
	}
	var all CRLs
	for i, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return CRLs{}, fault.Wrap(fault.Invalid, err, "CRL %d of %d", i+1, len(ders))
		}
		for _, extension := range list.Extensions {
			if extension.Critical {
				return CRLs{}, fault.New(fault.Invalid, "CRL of %q has the critical extension %s: it is a part of a list, or depends on another", list.Issuer, extension.Id)
			}
		}
		if list.Number == nil || list.Number.Sign() < 0 || list.NextUpdate.IsZero() {
			return CRLs{}, fault.New(fault.Invalid, "CRL of %q must have a number and say when the next one is due", list.Issuer)
		}
		all.lists = append(all.lists, list)
	}
	all.digest = FingerprintOf(bytes.Join(ders, nil))
	return all, nil
}

// ParseCRLsPEM reads PEM blocks of CRLs and nothing else.
func ParseCRLsPEM(data []byte) (CRLs, error) {
	var ders [][]byte
	for {
		data = bytes.TrimSpace(data)
		if len(data) == 0 {
			return ParseCRLs(ders)
		}
		block, rest := pem.Decode(data)
		if block == nil || block.Type != crlType || !bytes.HasPrefix(data, []byte("-----BEGIN ")) {
			return CRLs{}, fault.New(fault.Invalid, "no PEM block of type %s where CRL %d should be", crlType, len(ders)+1)
		}
		ders, data = append(ders, block.Bytes), rest
	}
}

// Digest is the SHA-256 of the lists' DERs one after the other; zero of none.
func (c CRLs) Digest() Fingerprint { return c.digest }

// PEM is all lists, in order.
func (c CRLs) PEM() []byte {
	var ders [][]byte
	for _, list := range c.lists {
		ders = append(ders, list.Raw)
	}
	return EncodeCRLPEM(ders...)
}

// Life is the thisUpdate and nextUpdate of the list that ends first.
func (c CRLs) Life() (from, until time.Time) {
	for _, list := range c.lists {
		if until.IsZero() || list.NextUpdate.Before(until) {
			from, until = list.ThisUpdate, list.NextUpdate
		}
	}
	return from, until
}

// Of is the DER of the authority's list, or nil.
func (c CRLs) Of(authority *x509.Certificate) []byte {
	if list := c.of(authority); list != nil {
		return list.Raw
	}
	return nil
}

func (c CRLs) of(authority *x509.Certificate) *x509.RevocationList {
	for _, list := range c.lists {
		if issuedBy(list, authority) {
			return list
		}
	}
	return nil
}

func issuedBy(list *x509.RevocationList, authority *x509.Certificate) bool {
	named := len(list.AuthorityKeyId) == 0 || len(authority.SubjectKeyId) == 0 || bytes.Equal(list.AuthorityKeyId, authority.SubjectKeyId)
	return named && bytes.Equal(list.RawIssuer, authority.RawSubject)
}

// Revokes says whether the certificate is on its issuer's list.
func (c CRLs) Revokes(cert *x509.Certificate) bool {
	for _, list := range c.lists {
		named := len(list.AuthorityKeyId) == 0 || len(cert.AuthorityKeyId) == 0 || bytes.Equal(list.AuthorityKeyId, cert.AuthorityKeyId)
		if !named || !bytes.Equal(list.RawIssuer, cert.RawIssuer) {
			continue
		}
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(cert.SerialNumber) == 0 {
				return true
			}
		}
	}
	return false
}

// Numbers are the CRL numbers by issuer, in hex and decimal.
func (c CRLs) Numbers() map[string]string {
	numbers := map[string]string{}
	for _, list := range c.lists {
		numbers[issuerKey(list)] = list.Number.String()
	}
	return numbers
}

func issuerKey(list *x509.RevocationList) string {
	return hex.EncodeToString(list.AuthorityKeyId) + "/" + FingerprintOf(list.RawIssuer).String()
}

// Check says whether the lists may take the place of those that were in use,
// whose numbers are seen: each is good now and not older, and is signed by the
// authority that it names, where that is known. Of each authority of the chain,
// the root included, there is one: who looks for lists refuses a chain that
// lacks one.
func (c CRLs) Check(chain, known []*x509.Certificate, seen map[string]string, now time.Time) error {
	for _, list := range c.lists {
		switch {
		case list.ThisUpdate.After(now.Add(listsAhead)):
			return fault.New(fault.Unavailable, "the CRL of %q is dated %s; by this host's clock it is %s", list.Issuer, stamp(list.ThisUpdate), stamp(now)).
				WithRemedy("set this host's clock right")
		case !list.NextUpdate.After(list.ThisUpdate), !now.Before(list.NextUpdate):
			return fault.New(fault.Invalid, "the CRL of %q ended at %s", list.Issuer, stamp(list.NextUpdate))
		}
		if before, ok := new(big.Int).SetString(seen[issuerKey(list)], 10); ok && list.Number.Cmp(before) < 0 {
			return fault.New(fault.Conflict, "the CRL of %q has number %s, and number %s was in use here: an older one would take revocations back", list.Issuer, list.Number, before)
		}
		for _, authority := range known {
			if issuedBy(list, authority) && list.CheckSignatureFrom(authority) != nil {
				return fault.New(fault.Invalid, "the CRL of %q is not signed by its key", list.Issuer)
			}
		}
	}
	for _, authority := range chain {
		list := c.of(authority)
		if list == nil {
			return fault.New(fault.Invalid, "there is no CRL of %q: with the others alone a server refuses everybody", authority.Subject)
		}
		if err := list.CheckSignatureFrom(authority); err != nil {
			return fault.Wrap(fault.Invalid, err, "the CRL of %q is not signed by its key", list.Issuer)
		}
	}
	return nil
}
