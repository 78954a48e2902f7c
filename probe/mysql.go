package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// The MySQL client/server protocol, connection phase: the server sends its
// greeting, the client the 32 bytes of SSLRequest, and TLS begins.
const (
	mysqlProtocol41       = 0x0200
	mysqlSSL              = 0x0800
	mysqlSecureConnection = 0x8000
	mysqlPluginAuth       = 0x0008_0000
	mysqlMaxPacket        = 16 << 20
	mysqlUTF8             = 33

	maxMySQLGreeting = 4 << 10
	maxMySQLRounds   = 4
)

// mysqlGreeting is what the probe needs of a server's first packet.
type mysqlGreeting struct {
	version      string
	capabilities uint32
	plugin       string // the server's default authentication plugin
	sequence     byte
}

func upgradeMySQL(conn net.Conn) (any, error) {
	payload, sequence, err := readMySQLPacket(conn, maxMySQLGreeting)
	if err != nil {
		return nil, err
	}
	greeting, err := parseMySQLGreeting(payload)
	if err != nil {
		return nil, err
	}
	if greeting.capabilities&mysqlSSL == 0 {
		return nil, notTLS("MySQL %q answers that TLS is off (no ssl_cert in its configuration)", greeting.version)
	}
	greeting.sequence = sequence + 1
	return greeting, writeMySQLPacket(conn, greeting.sequence, mysqlClientHead(greeting))
}

// parseMySQLGreeting reads HandshakeV10, or the error packet that comes in
// its place when this host is blocked or the server is full.
func parseMySQLGreeting(payload []byte) (mysqlGreeting, error) {
	var g mysqlGreeting
	switch {
	case len(payload) == 0:
		return g, notTLS("sends an empty greeting: not MySQL")
	case payload[0] == 0xff:
		return g, notTLS("MySQL refuses the connection: %s", mysqlErrorText(payload))
	case payload[0] != 10:
		return g, notTLS("its greeting has protocol version %d, not 10: not MySQL", payload[0])
	}
	version, rest, ok := bytes.Cut(payload[1:], []byte{0})
	// thread id, salt, filler, capabilities (low half)
	if !ok || len(rest) < 4+8+1+2 {
		return g, notTLS("its greeting is cut short: not MySQL")
	}
	g.version = clip(string(version))
	g.capabilities = uint32(binary.LittleEndian.Uint16(rest[13:]))
	rest = rest[15:]
	// character set, status, capabilities (high half), salt length, reserved
	if len(rest) < 1+2+2+1+10 {
		return g, nil
	}
	g.capabilities |= uint32(binary.LittleEndian.Uint16(rest[3:])) << 16
	salt := max(13, int(rest[5])-8)
	rest = rest[16:]
	if g.capabilities&mysqlPluginAuth != 0 && len(rest) > salt {
		name, _, _ := bytes.Cut(rest[salt:], []byte{0})
		g.plugin = clip(string(name))
	}
	return g, nil
}

// mysqlErrorText is the message of an ERR packet: 0xff, a code, and maybe
// '#' with an SQL state before the text.
func mysqlErrorText(payload []byte) string {
	if len(payload) < 3 {
		return "no reason given"
	}
	code, text := binary.LittleEndian.Uint16(payload[1:]), payload[3:]
	if len(text) >= 6 && text[0] == '#' {
		text = text[6:]
	}
	return clip(fmt.Sprintf("error %d: %s", code, text))
}

// mysqlClientHead is SSLRequest, and the first 32 bytes of a login too.
func mysqlClientHead(g mysqlGreeting) []byte {
	flags := uint32(mysqlProtocol41 | mysqlSSL | mysqlSecureConnection)
	flags |= g.capabilities & mysqlPluginAuth
	head := binary.LittleEndian.AppendUint32(nil, flags)
	head = binary.LittleEndian.AppendUint32(head, mysqlMaxPacket)
	head = append(head, mysqlUTF8)
	return append(head, make([]byte, 23)...)
}

// talkMySQL sees the login through, as a user that does not exist, to the
// server's "access denied". Hanging up before it is a broken handshake in the
// eyes of MySQL, and after max_connect_errors (100) of these in a row it
// blocks the host. Whatever is answered comes from a server that took the
// client into TLS; what an account of its own would REQUIRE is not seen.
func talkMySQL(conn io.ReadWriter, with partner) (Acceptance, error) {
	greeting := with.upgraded.(mysqlGreeting)
	login := append(mysqlClientHead(greeting), "rotunda-probe\x00"...)
	login = append(login, 0) // no password
	if greeting.plugin != "" {
		login = append(append(login, greeting.plugin...), 0)
	}
	sequence := greeting.sequence + 1
	if err := writeMySQLPacket(conn, sequence, login); err != nil {
		return NotKnown, err
	}
	for range maxMySQLRounds {
		payload, sequence, err := readMySQLPacket(conn, maxMySQLGreeting)
		if err != nil {
			return NotKnown, err
		}
		switch {
		case len(payload) > 0 && payload[0] == 0xff: // denied: what was wanted
			return Accepted, nil
		case len(payload) > 0 && payload[0] == 0x00: // an anonymous account: quit
			return Accepted, writeMySQLPacket(conn, 0, []byte{1})
		}
		// The server wants another plugin, or more data: nothing to give.
		if err := writeMySQLPacket(conn, sequence+1, nil); err != nil {
			return NotKnown, err
		}
	}
	return Accepted, nil
}

func readMySQLPacket(r io.Reader, limit int) (payload []byte, sequence byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, 0, err
	}
	size := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if size > limit {
		return nil, 0, notTLS("its first packet claims %d bytes: not MySQL", size)
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(r, payload)
	return payload, head[3], err
}

func writeMySQLPacket(w io.Writer, sequence byte, payload []byte) error {
	size := len(payload)
	packet := append([]byte{byte(size), byte(size >> 8), byte(size >> 16), sequence}, payload...)
	_, err := w.Write(packet)
	return err
}
