package ca

import "strconv"

// Each certificate carries the address of its authority's certificate, of the
// CRL shard that would list it and, but for authorities' own, of who answers for
// it by OCSP: so a certificate can be revoked even if nobody thought of it on
// the day it was issued.

func crlURL(base, authorityID string, shard byte) string {
	return base + "/crl/" + authorityID + "/" + strconv.Itoa(int(shard)) + ".crl"
}

func certificateURL(base, authorityID string) string {
	return base + "/ca/" + authorityID + ".crt"
}

func ocspURL(base, authorityID string) string { return base + "/ocsp/" + authorityID }
