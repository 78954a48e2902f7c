package probe

import (
	"encoding/json"
	"net"
	"strings"
)

// maxNATSInfo is above what a NATS server's INFO grows to with many
// connect_urls.
const maxNATSInfo = 64 << 10

// natsHello is answered with PONG, or with -ERR where a login is due. Both come
// only from a server that took the client. It names no user.
const natsHello = `CONNECT {"verbose":false,"pedantic":false,"tls_required":true,"name":"rotunda-probe","lang":"go","version":"1"}` +
	"\r\nPING\r\n"

// upgradeNATS reads the INFO line that a NATS server sends first; TLS begins
// right after it.
func upgradeNATS(conn net.Conn) (any, error) {
	line, err := readLine(conn, maxNATSInfo)
	if err != nil {
		return nil, err
	}
	return nil, checkNATSInfo(line)
}

func checkNATSInfo(line string) error {
	verb, body, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
	if !strings.EqualFold(verb, "INFO") {
		return notTLS("its first line is not NATS's INFO")
	}
	var info struct {
		TLSRequired  bool `json:"tls_required"`
		TLSAvailable bool `json:"tls_available"`
	}
	if err := json.Unmarshal([]byte(body), &info); err != nil {
		return notTLS("its INFO line holds no JSON object")
	}
	if !info.TLSRequired && !info.TLSAvailable {
		return notTLS("NATS answers that TLS is off (no tls block in its configuration)")
	}
	return nil
}
