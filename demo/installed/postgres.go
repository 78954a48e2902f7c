package installed

import (
	"fmt"
	"os"
	"path/filepath"
)

const pgHBA = `local all all peer map=demo
hostssl all all 127.0.0.1/32 trust clientcert=verify-ca
`

// Whoever the agent is may be the superuser over the unix socket, which only
// it and the server can reach.
const pgIdent = `demo root postgres
demo postgres postgres
demo %[1]s postgres
`

func postgres() kind {
	return kind{
		name: "postgres", patterns: []string{"/usr/lib/postgresql/*/bin/postgres", "/usr/local/pgsql/bin/postgres"},
		account: "postgres",
		prepare: preparePostgres,
		command: func(s Server) []string {
			arguments := []string{s.Binary, "-D", filepath.Join(s.Data, "cluster"), "-p", s.port()}
			for name, value := range map[string]string{
				"listen_addresses": "127.0.0.1", "unix_socket_directories": s.Data, "fsync": "off",
				"ssl": "on", "ssl_cert_file": s.current("chain.pem"), "ssl_key_file": s.current("key.pem"), "ssl_ca_file": s.current("bundle.pem"),
			} {
				arguments = append(arguments, "-c", name+"="+value)
			}
			return arguments
		},
		answers: func(s Server) []string { // its port is open while it still refuses sessions
			return []string{filepath.Join(filepath.Dir(s.Binary), "pg_isready"), "-q", "-h", s.Data, "-p", s.port()}
		},
		control: func(s Server) Control {
			return Control{Address: filepath.Join(s.Data, ".s.PGSQL."+s.port()), User: "postgres"}
		},
	}
}

func preparePostgres(s Server) error {
	data := filepath.Join(s.Data, "cluster")
	initdb, err := s.exec(filepath.Join(filepath.Dir(s.Binary), "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale", "C")
	if err != nil {
		return err
	}
	if err := initdb.Run(); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	self := os.Getenv("USER")
	if self == "" {
		self = "postgres"
	}
	for name, content := range map[string]string{"pg_hba.conf": pgHBA, "pg_ident.conf": fmt.Sprintf(pgIdent, self)} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}
