package ca

import (
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Issued is a certificate as it was signed. It must not leave the server
// before it is recorded.
type Issued struct {
	Authority           string // id of the one that signed
	DER                 []byte
	Serial              pki.Serial
	NotBefore, NotAfter time.Time
	Shard               int // of the CRL that would list it
	SPKI                pki.SPKIHash
	Fingerprint         pki.Fingerprint
	Chain               [][]byte // the leaf and what is sent after it
}

// Issue signs what was prepared. It does so once, even when called by several
// goroutines: a second certificate of one serial must never exist. After a
// failure prepare again; the serial is spent.
func (a *Authority) Issue(p *Prepared) (Issued, error) {
	if p == nil || p.authority != a {
		return Issued{}, fault.New(fault.Internal, "authority %s: the certificate was not prepared by it", a.ID)
	}
	if !p.used.CompareAndSwap(false, true) {
		return Issued{}, fault.New(fault.Internal, "authority %s: serial %s was issued before", a.ID, p.serial)
	}
	der, err := a.sign(p.tbs)
	if err != nil {
		return Issued{}, fault.Wrap(fault.Internal, err, "authority %s: sign serial %s", a.ID, p.serial)
	}
	return Issued{
		Authority: a.ID, DER: der, Serial: p.serial, NotBefore: p.notBefore, NotAfter: p.notAfter,
		Shard: int(p.serial.Shard()), SPKI: p.spki, Fingerprint: pki.FingerprintOf(der),
		Chain: slices.Concat([][]byte{der}, a.chain),
	}, nil
}
