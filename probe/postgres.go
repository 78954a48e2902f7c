package probe

import (
	"encoding/binary"
	"io"
	"net"
)

// PostgreSQL's frontend/backend protocol, "SSL Session Encryption": the
// client sends SSLRequest, the server answers one byte and TLS begins.
const postgresSSLRequest = 80877103

func upgradePostgres(conn net.Conn) (any, error) {
	request := binary.BigEndian.AppendUint32(nil, 8)
	request = binary.BigEndian.AppendUint32(request, postgresSSLRequest)
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	switch answer[0] {
	case 'S':
		return nil, nil
	case 'N':
		return nil, notTLS("PostgreSQL answers that TLS is off (ssl = off)")
	case 'E':
		return nil, notTLS("PostgreSQL answers SSLRequest with an error: too busy, or no PostgreSQL of this century")
	}
	return nil, notTLS("answers SSLRequest with byte 0x%02x: not PostgreSQL", answer[0])
}
