package target

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// postgresOrderRights is what orders take beside postgresRights.
const postgresOrderRights = "GRANT pg_signal_backend TO %[1]s"

// postgresMay says in SQL whether the agent may end a session of the role r.
const postgresMay = `((SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) OR pg_has_role(current_user, r.oid, 'USAGE')
	OR NOT r.rolsuper AND pg_has_role(current_user, 'pg_signal_backend', 'USAGE'))`

// process is a server process: a session or a walsender.
type postgresProcess struct {
	pid, started, issuer, role string
	may                        bool
	serial                     string // of the client's certificate, decimal; "" where it has none
}

func (s *postgresSession) processes(sql string) ([]postgresProcess, error) {
	rows, err := s.rows(sql)
	var all []postgresProcess
	for _, row := range rows {
		one := postgresProcess{pid: row[0], started: row[1], issuer: row[2], role: row[3], may: row[4] == "t"}
		if len(row) > 5 {
			one.serial = row[5]
		}
		all = append(all, one)
	}
	return all, err
}

// ended counts those of the processes that are gone. A number is used again, so
// the start counts too.
func (s *postgresSession) ended(of []postgresProcess) (int, error) {
	if len(of) == 0 {
		return 0, nil
	}
	row, err := s.row("SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE (pid::text, backend_start::text) IN (" + these(of) + ")")
	if err != nil {
		return 0, err
	}
	var left int
	_, err = fmt.Sscan(row[0], &left)
	return len(of) - left, err
}

// these lists processes in SQL, by what the server itself said of them.
func these(of []postgresProcess) string {
	var all []string
	for _, one := range of {
		all = append(all, fmt.Sprintf("('%s', '%s')", strings.ReplaceAll(one.pid, "'", "''"), strings.ReplaceAll(one.started, "'", "''")))
	}
	return strings.Join(all, ", ")
}

// terminate tells processes to end, and waits until they have, or until there
// is no time for another look.
func (s *postgresSession) terminate(of []postgresProcess) (ended int, err error) {
	if len(of) == 0 {
		return 0, nil
	}
	_, err = s.rows("SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE (pid::text, backend_start::text) IN (" + these(of) + ")")
	if err != nil {
		return 0, err
	}
	for {
		switch now, err := s.ended(of); {
		case err == nil:
			ended = now
		case s.ctx.Err() == nil:
			return ended, err
		}
		if ended == len(of) || !wait(s.ctx, linkEvery) {
			return ended, nil
		}
	}
}

// closePostgresSessions ends sessions by the issuer of their clients'
// certificates, which is the issuing authority and not the root.
func closePostgresSessions(ctx context.Context, _ Host, t Target, o Order) (Result, error) {
	s, err := t.orderPostgres(ctx)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	sessions, err := s.processes(`SELECT a.pid, a.backend_start, coalesce(l.issuer_dn, ''), r.rolname, ` + postgresMay + `, l.client_serial
		FROM pg_catalog.pg_stat_ssl l JOIN pg_catalog.pg_stat_activity a USING (pid) JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
		WHERE l.ssl AND a.backend_type = 'client backend'`)
	if err != nil {
		return Result{}, err
	}
	sessions = slices.DeleteFunc(sessions, func(one postgresProcess) bool { return !issuedBy(one.issuer, o.Issuers) || !o.means(one.serial) })
	var roles []string
	mine := slices.DeleteFunc(slices.Clone(sessions), func(one postgresProcess) bool {
		if !one.may {
			roles = append(roles, one.role)
		}
		return !one.may
	})
	ended, err := s.terminate(mine)
	result := Result{Outcome: Done, Count: int64(ended), Words: fmt.Sprintf("%d sessions of %s were closed", ended, o.whose())}
	switch {
	case err != nil:
		return result, err
	case len(roles) > 0:
		slices.Sort(roles)
		problem := s.mayNotEnd(slices.Compact(roles), len(sessions)-len(mine))
		if ended == 0 {
			return result, problem
		}
		result.Outcome, result.Words = Partly, result.Words+"; "+problem.Error()
	case ended < len(mine):
		result.Outcome, result.Words = Partly, result.Words+fmt.Sprintf("; %d were told to end and have not yet", len(mine)-ended)
	}
	return result, nil
}

// means says whether the order is about a certificate of the serial, in decimal.
func (o Order) means(serial string) bool {
	return len(o.Serials) == 0 || slices.ContainsFunc(o.Serials, func(one pki.Serial) bool { return one.Big().String() == serial })
}

// orderPostgres opens a session for an order.
func (t Target) orderPostgres(ctx context.Context) (*postgresSession, error) {
	if t.Control.Address == "" {
		return nil, fault.New(fault.Invalid, "target %s: by its pid file alone PostgreSQL's sessions can't be told apart", t.Name).
			WithRemedy("name its unix socket as targets.%s.address in agent.yaml, with user and passwordFile", t.Name)
	}
	s, err := t.postgresLogin(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.look(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *postgresSession) mayNotEnd(roles []string, count int) error {
	return fault.New(fault.Forbidden, "target %s: role %s may not end %d sessions of %s", s.t.Name, s.t.Control.User, count, strings.Join(roles[:min(len(roles), 8)], ", ")).
		WithRemedy("as a superuser: %s; sessions of superusers it can't end even then: pg_terminate_backend as one of them", fmt.Sprintf(postgresOrderRights, s.t.Control.User))
}

func (o Order) whose() string {
	if len(o.Serials) > 0 {
		return fmt.Sprintf("%d revoked certificates", len(o.Serials))
	}
	return ofIssuers(o.Issuers)
}

func ofIssuers(issuers []*x509.Certificate) string {
	if len(issuers) == 0 {
		return "all TLS clients"
	}
	var names []string
	for _, issuer := range issuers {
		names = append(names, issuer.Subject.String())
	}
	return "clients under " + strings.Join(names, " and ")
}

// issuedBy says whether pg_stat_ssl means one of the issuers, or whether none is
// asked for. It keeps 63 bytes of a name.
func issuedBy(shown string, issuers []*x509.Certificate) bool {
	return len(issuers) == 0 || slices.ContainsFunc(issuers, func(issuer *x509.Certificate) bool {
		name := slashName(issuer)
		return name != "" && name[:min(len(name), 63)] == shown
	})
}

// slashNames are the names that OpenSSL has for what issuers are named by.
var slashNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street",
	"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.17": "postalCode", "2.5.4.42": "GN",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID", "1.2.840.113549.1.9.1": "emailAddress",
}

// slashName is a subject as PostgreSQL writes it: each attribute in its order,
// behind a slash, with what RFC 2253 escapes escaped. Empty: it can't be told.
func slashName(cert *x509.Certificate) string {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(cert.RawSubject, &name); err != nil || len(rest) > 0 {
		return ""
	}
	var b strings.Builder
	for _, set := range name {
		for _, attribute := range set {
			short, known := slashNames[attribute.Type.String()]
			value, text := attribute.Value.(string)
			if !known || !text {
				return ""
			}
			b.WriteString("/" + short + "=" + escape2253(value))
		}
	}
	return b.String()
}

func escape2253(value string) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		edge := i == 0 && (c == '#' || c == ' ') || i == len(value)-1 && c == ' '
		if edge || strings.IndexByte(`,+"\<>;`, c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// reconnectPostgres ends the walsenders of a server and waits until each
// standby streams to a new one. A standby's own link is its primary's to break.
func reconnectPostgres(ctx context.Context, _ Host, t Target, _ Order) (Result, error) {
	s, err := t.orderPostgres(ctx)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	const walsenders = `SELECT a.pid, a.backend_start, coalesce(l.issuer_dn, ''), w.application_name, ` + postgresMay + `
		FROM pg_catalog.pg_stat_replication w JOIN pg_catalog.pg_stat_activity a USING (pid) JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
		LEFT JOIN pg_catalog.pg_stat_ssl l USING (pid) WHERE w.state <> 'backup'`
	old, err := s.processes(walsenders)
	if err != nil {
		return Result{}, err
	}
	if len(old) == 0 {
		return s.noWalsenders()
	}
	for _, one := range old {
		if !one.may {
			return Result{}, s.mayNotEnd([]string{"the standby " + one.role}, len(old))
		}
	}
	if _, err := s.terminate(old); err != nil {
		return Result{}, err
	}
	for back, away := cameBack(old, nil); ; {
		now, err := s.processes(walsenders + ` AND w.state = 'streaming'`)
		switch {
		case err == nil:
			back, away = cameBack(old, now)
		case s.ctx.Err() == nil:
			return Result{}, err
		} // where the time ended in the middle of a look, the one before counts
		result := Result{Outcome: Done, Count: int64(len(back)), Words: fmt.Sprintf("%d of %d standbys stream again%s", len(back), len(old), underIssuers(back))}
		if len(away) == 0 {
			return result, nil
		}
		if !wait(s.ctx, linkEvery) {
			return result, fault.New(fault.Unavailable, "target %s: %s did not come back in time", t.Name, strings.Join(away, ", ")).
				WithRemedy("see that standby's log: it says which certificate is not taken")
		}
	}
}

func (s *postgresSession) noWalsenders() (Result, error) {
	row, err := s.row("SELECT pg_is_in_recovery()")
	if err == nil && row[0] == "t" {
		err = fault.New(fault.Invalid, "target %s is a standby", s.t.Name).WithRemedy("give the order to its primary, which breaks the link from its side")
	}
	return Result{Outcome: Done, Words: "no standby is connected"}, err
}

// cameBack pairs each old walsender with a new one of the same name.
func cameBack(old, now []postgresProcess) (back []postgresProcess, away []string) {
	now = slices.DeleteFunc(slices.Clone(now), func(one postgresProcess) bool {
		return slices.ContainsFunc(old, func(was postgresProcess) bool { return was.pid == one.pid && was.started == one.started })
	})
	for _, was := range old {
		i := slices.IndexFunc(now, func(one postgresProcess) bool { return one.role == was.role })
		if i < 0 {
			away = append(away, was.role)
			continue
		}
		back = append(back, now[i])
		now = slices.Delete(now, i, i+1)
	}
	return back, away
}

func underIssuers(back []postgresProcess) string {
	var issuers []string
	for _, one := range back {
		if one.issuer != "" && !slices.Contains(issuers, one.issuer) {
			issuers = append(issuers, one.issuer)
		}
	}
	if len(issuers) == 0 {
		return ""
	}
	return ", with certificates of " + strings.Join(issuers, " and ")
}
