package pki

import (
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Shards is how many CRLs an authority has. A certificate belongs to the
// shard that its serial names, from its first day.
const Shards = 128

// Serial is the serial number of a certificate: 48 bits of milliseconds since
// 1970, then 80 random bits. The top bit is clear, so that it is positive in
// DER, and it is never zero (RFC 5280, section 4.1.2.2). Serials of later
// milliseconds compare greater.
type Serial [16]byte

// NewSerial returns a fresh serial of the moment now, with 80 bits from rand.
func NewSerial(now time.Time, rand io.Reader) (Serial, error) {
	ms := now.UnixMilli()
	if ms <= 0 || ms >= 1<<47 {
		return Serial{}, fmt.Errorf("new serial: the clock says %s, which does not fit 47 bits of milliseconds", now.UTC().Format(time.RFC3339))
	}
	var s Serial
	binary.BigEndian.PutUint64(s[:8], uint64(ms)<<16)
	if _, err := io.ReadFull(rand, s[6:]); err != nil {
		return Serial{}, fmt.Errorf("new serial: read randomness: %w", err)
	}
	return s, nil
}

// ParseSerial reads the 32 hexadecimal digits that String writes.
func ParseSerial(text string) (Serial, error) {
	var s Serial
	if err := parseHex(s[:], "serial", text); err != nil {
		return Serial{}, err
	}
	if s[0]&0x80 != 0 {
		return Serial{}, fault.New(fault.Invalid, "serial %s is negative: the first digit must be below 8", text)
	}
	if s == (Serial{}) {
		return Serial{}, fault.New(fault.Invalid, "serial is zero; it must be positive")
	}
	return s, nil
}

// SerialOf is the serial of cert. Foreign serials longer than 127 bits have no
// such form and are refused.
func SerialOf(cert *x509.Certificate) (Serial, error) {
	n := cert.SerialNumber
	if n == nil || n.Sign() <= 0 {
		return Serial{}, fault.New(fault.Invalid, "certificate %q has no positive serial", cert.Subject)
	}
	if n.BitLen() > 127 {
		return Serial{}, fault.New(fault.Invalid, "certificate %q has a serial of %d bits; at most 127 are supported", cert.Subject, n.BitLen())
	}
	var s Serial
	n.FillBytes(s[:])
	return s, nil
}

// String is 32 lower-case hexadecimal digits.
func (s Serial) String() string { return hex.EncodeToString(s[:]) }

// Big is the serial as crypto/x509 takes it.
func (s Serial) Big() *big.Int { return new(big.Int).SetBytes(s[:]) }

// Shard is the number, 0 to 127, of the CRL that would list this serial.
func (s Serial) Shard() byte { return s[15] % Shards }

// Time is the millisecond that a serial made by NewSerial was made in.
func (s Serial) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(s[:8]) >> 16)).UTC()
}

// IsZero tells whether s is the zero value, which is no serial.
func (s Serial) IsZero() bool { return s == Serial{} }
