package rootchange

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// liar is an nginx whose configuration names a copy of the bundle: it reloads
// as it is told to, its workers change over, it shows each new leaf, and trusts
// what it trusted before. Only what a canary meets with tells.
func (f *fleet) liar(id string, r *row) {
	f.until("the change waits for nginx alone, which refuses what is under the new root", func() error {
		now, err := f.status(id)
		if err != nil {
			return err
		}
		text := now.waits()
		if now.Phase != "prove" || len(now.Waits) != 1 || !strings.Contains(text, "nginx on agent") || !strings.Contains(text, "rejects a client certificate under authority") {
			return fmt.Errorf("at %s it waits for %s", now.Phase, text)
		}
		return nil
	})
	if text := f.rotunda("trust", "status", id); !strings.Contains(text, "nginx") {
		f.t.Errorf("nginx is not named:\n%s", text)
	}
	f.honest()
	r.phases = f.follow(id, nil)
}

// lie has nginx check its clients by a copy of the bundle, made now.
func (f *fleet) lie() {
	f.t.Helper()
	text, err := os.ReadFile(f.bundleOfNginx())
	if err == nil {
		err = os.WriteFile(f.path("frozen.pem"), text, 0o644)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.reconfigure("ssl_client_certificate "+f.bundleOfNginx()+";", "ssl_client_certificate "+f.path("frozen.pem")+";")
}

// honest undoes that. Nobody tells nginx: that is the agent's to do.
func (f *fleet) honest() {
	f.t.Helper()
	f.reconfigure("ssl_client_certificate "+f.path("frozen.pem")+";", "ssl_client_certificate "+f.bundleOfNginx()+";")
}

func (f *fleet) bundleOfNginx() string {
	return filepath.Join(f.places[5].dir(f), "current", "bundle.pem")
}

func (f *fleet) reconfigure(from, to string) {
	f.t.Helper()
	path := filepath.Join(f.nginx.Dir, "nginx.conf")
	text, err := os.ReadFile(path)
	if err == nil && strings.Count(string(text), from) != 1 {
		err = fmt.Errorf("%s does not say %q", path, from)
	}
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o600)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}
