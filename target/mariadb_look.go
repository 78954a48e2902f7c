package target

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// look says what answers, that the agent may do what it will have to, and that
// it is the server that reads this target's files.
func (s *mysqlSession) look() (Contact, error) {
	seen, err := s.version()
	if err != nil {
		return seen, err
	}
	if err := s.mayReload(); err != nil {
		return seen, err
	}
	// What health will ask. It takes a right of its own, and shows it.
	if _, err := s.rows(s.says.replication); err != nil {
		return seen, err
	}
	return seen, s.checkTLS()
}

// version tells MariaDB from MySQL, whose protocol others speak too.
func (s *mysqlSession) version() (Contact, error) {
	rows, err := s.rows("SELECT VERSION() AS version")
	if err != nil {
		return Contact{}, err
	}
	if len(rows) != 1 {
		return Contact{}, fault.New(fault.Invalid, "target %s: what answers at %s has no version", s.t.Name, s.t.Control.Address)
	}
	full := rows[0]["version"] // 10.11.19-MariaDB-0+deb12u1-log
	s.says = mysqlDialects[strings.Contains(full, "MariaDB")]
	version, _, _ := strings.Cut(full, "-")
	seen := Contact{Product: s.says.product, Version: version}
	if below(version, s.says.major, s.says.minor) {
		return seen, s.t.tooOld(s.says.title, version, s.says.oldest, s.says.reload)
	}
	return seen, nil
}

// mayReload reads the account's own rights. Their text holds a digest of the
// password, so it is never repeated.
func (s *mysqlSession) mayReload() error {
	rows, err := s.rows("SHOW GRANTS")
	if err != nil {
		return err
	}
	for _, row := range rows {
		for _, grant := range row { // one column, named after the account
			if grants(grant, s.says.right) {
				return nil
			}
		}
	}
	return s.noRight("it lacks " + s.says.right + ", which " + s.says.reload + " takes")
}

// grants says whether a line of SHOW GRANTS holds a right to all there is.
func grants(line, right string) bool {
	list, _, ok := strings.Cut(strings.TrimPrefix(line, "GRANT "), " ON *.* TO ")
	return ok && slices.ContainsFunc(strings.Split(list, ","), func(one string) bool {
		one = strings.TrimSpace(one)
		return one == right || one == "ALL PRIVILEGES"
	})
}

// checkTLS sees that TLS is on and reads the files of this target. Before the
// first revision is in place no server can name its files.
func (s *mysqlSession) checkTLS() error {
	rows, err := s.rows("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('have_ssl', 'ssl_cert', 'ssl_key', 'ssl_ca', 'ssl_capath', 'datadir')")
	if err != nil || !s.t.placed("key.pem") {
		return err
	}
	variables := mysqlNamed(rows)
	for _, one := range []struct {
		name  string
		files []string
	}{
		{"ssl_cert", []string{"chain.pem", "combined.pem"}},
		{"ssl_key", []string{"key.pem", "combined.pem"}},
		{"ssl_ca", []string{"bundle.pem"}}, // without it clients need no certificate
	} {
		path := variables[one.name]
		if path == "" && one.name == "ssl_ca" {
			continue
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(variables["datadir"], path)
		}
		if !s.t.follows(path, one.files...) {
			return fault.New(fault.Invalid, "target %s: %s reads %s from %q, which is not this target's", s.t.Name, s.says.title, one.name, variables[one.name]).
				WithRemedy("write %s = %s into its configuration and restart it. If it is right as it is, targets.%s.address in agent.yaml leads to another server",
					one.name, s.t.File(one.files[0]), s.t.Name)
		}
	}
	switch {
	case variables["ssl_capath"] != "":
		return fault.New(fault.Invalid, "target %s: %s also trusts all of ssl_capath %s, so that no CA could be withdrawn", s.t.Name, s.says.title, variables["ssl_capath"]).
			WithRemedy("remove ssl_capath: %s holds the CAs", s.t.File("bundle.pem"))
	case variables["have_ssl"] != "" && variables["have_ssl"] != "YES":
		return fault.New(fault.Invalid, "target %s: %s has TLS switched off (have_ssl = %s)", s.t.Name, s.says.title, variables["have_ssl"]).
			WithRemedy("see its error log: its user must be able to read %s and all that leads there", s.t.File("key.pem"))
	}
	return nil
}
