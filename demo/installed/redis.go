package installed

import (
	"path/filepath"
)

func redis() kind {
	socket := func(s Server) string { return filepath.Join(s.Data, "redis.sock") }
	return kind{
		name: "redis", patterns: []string{"/usr/bin/redis-server", "/usr/local/bin/redis-server", "/usr/bin/valkey-server"},
		prepare: func(Server) error { return nil },
		command: func(s Server) []string {
			return []string{s.Binary, "--port", "0", "--tls-port", s.port(), "--bind", "127.0.0.1", "--dir", s.Data, "--save", "",
				"--unixsocket", socket(s), "--unixsocketperm", "700",
				"--tls-cert-file", s.current("chain.pem"), "--tls-key-file", s.current("key.pem"),
				"--tls-ca-cert-file", s.current("bundle.pem"), "--tls-auth-clients", "yes"}
		},
		control: func(s Server) Control { return Control{Address: socket(s)} },
	}
}
