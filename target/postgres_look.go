package target

import (
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// look says what answers, that the agent may do what it will have to, and that
// it is the server that reads this target's files.
func (s *postgresSession) look() (Contact, error) {
	row, err := s.row(`SELECT version(), current_setting('server_version'),
		pg_has_role(current_user, 'pg_monitor', 'USAGE'), has_function_privilege('pg_catalog.pg_reload_conf()', 'EXECUTE')`)
	if err != nil {
		return Contact{}, err
	}
	if !strings.HasPrefix(row[0], "PostgreSQL ") {
		return Contact{}, fault.New(fault.Invalid, "target %s: what answers at its control path %s is no PostgreSQL: %s", s.t.Name, s.t.Control.Address, quote(row[0])).
			WithRemedy("name PostgreSQL's own socket as targets.%s.address in agent.yaml", s.t.Name)
	}
	version, _, _ := strings.Cut(row[1], " ") // 15.18 (Debian 15.18-0+deb12u1)
	seen := Contact{Product: "postgres", Version: version}
	switch {
	case below(version, oldestPostgres, 0):
		return seen, s.t.tooOld("PostgreSQL", version, "10", "reloading TLS files")
	case row[2] != "t":
		return seen, s.noRight("it is no member of pg_monitor")
	case row[3] != "t":
		return seen, s.noRight("it may not execute pg_reload_conf()")
	}
	return seen, s.checkTLS()
}

// checkTLS sees that TLS is on and reads the files of this target. Before the
// first revision is in place no server can name its files.
func (s *postgresSession) checkTLS() error {
	rows, err := s.rows(`SELECT name, setting, coalesce(sourcefile, '') FROM pg_catalog.pg_settings
		WHERE name IN ('ssl', 'ssl_cert_file', 'ssl_key_file', 'ssl_ca_file', 'ssl_crl_file', 'data_directory')`)
	if err != nil {
		return err
	}
	settings, from := map[string]string{}, map[string]string{}
	for _, row := range rows {
		settings[row[0]], from[row[0]] = row[1], row[2]
	}
	if !s.t.placed("key.pem") {
		return nil
	}
	for _, one := range []struct {
		name  string
		files []string
		empty bool
	}{
		{"ssl_cert_file", []string{"chain.pem", "combined.pem"}, false},
		{"ssl_key_file", []string{"key.pem", "combined.pem"}, false},
		{"ssl_ca_file", []string{"bundle.pem"}, true}, // without it clients need no certificate
	} {
		path := settings[one.name]
		if path == "" && one.empty {
			continue
		}
		if !s.t.follows(absolute(path, settings["data_directory"]), one.files...) {
			return s.readsElsewhere(one.name, settings[one.name], one.files[0])
		}
	}
	if settings["ssl"] != "on" {
		return fault.New(fault.Invalid, "target %s: PostgreSQL has TLS switched off (ssl = %s)", s.t.Name, settings["ssl"]).
			WithRemedy("ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()")
	}
	if !s.t.takesCRL() {
		return nil
	}
	return s.t.checkCRL("PostgreSQL", absolute(settings["ssl_crl_file"], settings["data_directory"]), from["ssl_crl_file"],
		"ssl_crl_file = '"+s.t.File("crl.pem")+"'", "include_if_exists = '"+s.t.File("crl.conf")+"'")
}

func (s *postgresSession) readsElsewhere(setting, value, file string) error {
	return fault.New(fault.Invalid, "target %s: PostgreSQL reads %s from %q, which is not this target's", s.t.Name, setting, value).
		WithRemedy("ALTER SYSTEM SET %s = '%s'; SELECT pg_reload_conf(). If it is right as it is, targets.%s.address in agent.yaml leads to another PostgreSQL", setting, s.t.File(file), s.t.Name)
}
