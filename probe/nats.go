package probe

import (
	"encoding/json"
	"io"
	"net"
	"strings"
)

// maxNATSInfo is above what a NATS server's INFO grows to with many
// connect_urls.
const maxNATSInfo = 64 << 10

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

// askNATS sends PING: answered with PONG, or with -ERR where a login is
// needed first. Both come only from a server that took the client.
func askNATS(w io.Writer) error {
	_, err := io.WriteString(w, "PING\r\n")
	return err
}
