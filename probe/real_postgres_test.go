package probe

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRealPostgresSaysWhomItAccepts goes through the lines that decide in
// pg_hba.conf, in the server's own language and in another: the words of a
// FATAL are the server's, and must not be what is gone by.
func TestRealPostgresSaysWhomItAccepts(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	g := settle(t, "postgres", c.ca, c.leaf)
	g.run(postgresBin(t, "initdb"), "-D", "DIR/data", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8", "-U", "postgres")
	for _, language := range []struct{ name, wants string }{
		{"en", "connection requires a valid client certificate"},
		{"de", "Verbindung erfordert ein gültiges Client-Zertifikat"},
	} {
		t.Run(language.name, func(t *testing.T) {
			// Any locale but plain C asks the catalogues, for this language.
			g := g.again(t)
			hup := startPostgres(t, g, "LANGUAGE="+language.name)
			for name, hba := range map[string]struct {
				lines   string
				auth    ClientAuth
				without Acceptance
				says    string
			}{
				"the file demands it":       {"hostssl all all all scram-sha-256 clientcert=verify-ca", ClientAuthRequired, Rejected, language.wants},
				"the method demands it":     {"hostssl all all all cert", ClientAuthRequired, Rejected, language.wants},
				"a password is enough":      {"hostssl all all all scram-sha-256", ClientAuthOptional, Accepted, ""},
				"no such role, and no word": {"hostssl all all all trust", ClientAuthOptional, Accepted, ""},
				"the wrong system user":     {"hostssl all all all ident", ClientAuthUnchecked, Accepted, ""},
				"the line says no":          {"hostssl all all all reject", ClientAuthUnchecked, Undecided, "28000"},
				"no line for this role":     {"hostssl all somebody all cert", ClientAuthUnchecked, Undecided, "28000"},
			} {
				t.Run(name, func(t *testing.T) {
					g := g.again(t)
					hup(hba.lines)
					c.check(t, g, realServer{Postgres, "", nil, hba.auth, hba.without, Accepted, Rejected})
					seen := shake(t, Spec{Address: g.address, Preamble: Postgres, ReadAcceptance: true})
					if !strings.Contains(seen.Error, hba.says) || (hba.says == "") != (seen.Error == "") {
						t.Errorf("says %q, want %q in it", seen.Error, hba.says)
					}
				})
			}
		})
	}
}

// again is the same ground for a test inside a test.
func (g *ground) again(t *testing.T) *ground {
	inner := *g
	inner.t = t
	return &inner
}

// postgresBin finds PostgreSQL's own directory of programs.
func postgresBin(t *testing.T, name string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		t.Fatalf("PostgreSQL's %s is not installed: run `make deps`", name)
	}
	return found[len(found)-1]
}

// startPostgres starts the server in DIR/data. What it returns gives it other
// lines of pg_hba.conf.
func startPostgres(t *testing.T, g *ground, env ...string) (hup func(hba string)) {
	t.Helper()
	g.configure("data/postgresql.auto.conf", `listen_addresses = '127.0.0.1'
port = PORT
unix_socket_directories = ''
ssl = on
ssl_cert_file = 'DIR/cert.pem'
ssl_key_file = 'DIR/key.pem'
ssl_ca_file = 'DIR/ca.pem'
lc_messages = 'C.utf8'
fsync = off
`)
	g.configure("data/pg_hba.conf", "hostssl all all all cert\n")
	command := g.command(postgresBin(t, "postgres"), "-D", "DIR/data")
	command.Env = append(os.Environ(), env...)
	g.startCommand(Postgres, command)
	reloads := strings.Count(g.log.String(), "SIGHUP")
	return func(hba string) {
		g.configure("data/pg_hba.conf", hba+"\n")
		if err := command.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		reloads++
		// It says so before it forks for anybody who comes afterwards.
		g.await(func(log string) bool { return strings.Count(log, "SIGHUP") >= reloads })
	}
}

// await waits for the server's log to say something.
func (g *ground) await(said func(log string) bool) {
	g.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if said(g.log.String()) {
			return
		}
	}
	g.t.Fatalf("it does not say what was waited for:\n%s", g.log)
}
