package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}

// checkKeyIdentifier tells whether cert's authority key identifier points at
// issuer. crypto/x509 takes the identifier as a hint; OpenSSL refuses an issuer
// that it does not fit, by key or by issuer and serial (RFC 5280, 4.2.1.1).
func checkKeyIdentifier(cert, issuer *x509.Certificate) error {
	if len(cert.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId) {
		return refuseChain("%s names its issuer's key as %x but %s has %x; authority and subject key identifier must be equal",
			describe(cert), cert.AuthorityKeyId, describe(issuer), issuer.SubjectKeyId)
	}
	name, serial, ok := authorityNameAndSerial(cert)
	if !ok {
		return refuseChain("%s has an authority key identifier that does not parse", describe(cert))
	}
	if serial != nil && serial.Cmp(issuer.SerialNumber) != 0 {
		return refuseChain("%s says its issuer's serial is %x but %s has %x", describe(cert), serial, describe(issuer), issuer.SerialNumber)
	}
	if name != nil && !bytes.Equal(name, issuer.RawIssuer) {
		return refuseChain("%s says who issued its issuer, and it is not who issued %s", describe(cert), describe(issuer))
	}
	return nil
}

// authorityNameAndSerial reads the two optional fields of the authority key
// identifier that crypto/x509 leaves out; nil where they are absent. The name is
// the first directory name among authorityCertIssuer's.
func authorityNameAndSerial(cert *x509.Certificate) (name []byte, serial *big.Int, ok bool) {
	at := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidAuthorityKeyID) })
	if at < 0 {
		return nil, nil, true
	}
	context := func(n uint8) cryptobyte_asn1.Tag { return cryptobyte_asn1.Tag(n).ContextSpecific() }
	der := cryptobyte.String(cert.Extensions[at].Value)
	var body, names, number cryptobyte.String
	var hasNames, hasNumber bool
	if !der.ReadASN1(&body, cryptobyte_asn1.SEQUENCE) || !body.SkipOptionalASN1(context(0)) ||
		!body.ReadOptionalASN1(&names, &hasNames, context(1).Constructed()) ||
		!body.ReadOptionalASN1(&number, &hasNumber, context(2)) {
		return nil, nil, false
	}
	if hasNumber {
		serial = new(big.Int).SetBytes(number)
	}
	for hasNames && !names.Empty() {
		var one cryptobyte.String
		var tag cryptobyte_asn1.Tag
		if !names.ReadAnyASN1(&one, &tag) {
			return nil, nil, false
		}
		if tag == context(4).Constructed() {
			return one, serial, true
		}
	}
	return nil, serial, true
}
