package story

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/interop/lab"
	"github.com/rotunda-pki/rotunda/interop/table"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/target"
)

// signedWrong is what no CA should sign, and what the agent has to notice
// before anything is touched.
var signedWrong = []struct {
	name  string
	twist func(*lab.Order)
}{
	{"a leaf for another key", func(o *lab.Order) { o.Public = otherKey().Public() }},
	{"an expired leaf", func(o *lab.Order) { o.NotBefore, o.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour) }},
	{"a leaf of another name", func(o *lab.Order) { o.DNS = []string{"elsewhere.test"} }},
	{"a leaf for clients only", func(o *lab.Order) { o.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }},
}

// spoiled is what happens to staged files before they are checked.
var spoiled = []struct {
	name  string
	spoil func(dir string) error
}{
	{"a truncated chain", func(dir string) error { return truncate(dir, "chain.pem") }},
	{"a key that does not match", func(dir string) error { return strangeKey(dir) }},
	{"a key of another owner", func(dir string) error {
		return replace(dir, "key.pem", func(path string) error { return os.Chown(path, 12345, 12345) })
	}},
	{"a key that everybody can read", func(dir string) error {
		return replace(dir, "key.pem", func(path string) error { return os.Chmod(path, 0o644) })
	}},
}

// Sabotage hands the agent, and the server, what is broken. Nothing of it may
// cost a request.
func (s *Subject) Sabotage(t *testing.T) {
	m := s.Members[0]
	for _, wrong := range signedWrong {
		s.Plane.Twist(wrong.twist)
		s.caught(t, m, wrong.name, m.patient, "request", "check")
	}
	for _, wrong := range spoiled {
		m.once("stage: recorded", func() error { return wrong.spoil(newest(m.Server.Target.Directory)) })
		s.caught(t, m, wrong.name, m.patient, "check")
	}
	if s.Adapter.Validates == target.Yes {
		m.once("check: recorded", func() error { return strangeKey(newest(m.Server.Target.Directory)) })
		s.caught(t, m, "a key that does not match, after the check", hasty, "activate", "prove")
	}
	s.otherKeyType(t, m)
}

// caught renews, sees the agent refuse, sees that nothing changed, and lets
// the next attempt end well.
func (s *Subject) caught(t *testing.T, m *Member, what string, change func(*api.DesiredPlacement), steps ...string) {
	t.Helper()
	m.trouble(what)
	from := m.renew(t, change)
	report := m.await(t, "caught", func(r *api.PlacementReport) bool {
		return inTrouble(r) && r.GetGeneration() == from || settled(r) && r.GetGeneration() > from
	})
	if settled(report) {
		if report.GetGeneration() == from+1 {
			t.Errorf("%s: nobody caught %s", m.Name, what)
		} // else it threw the certificate away at once and asked for another
		m.calm()
		s.Tally.Count(func(r *table.Row) { r.Renewals++ })
		return
	}
	if !slices.Contains(steps, report.GetFailure().GetStep()) {
		t.Errorf("%s: %s was caught at %s (%s), wanted one of %q", m.Name, what, report.GetFailure().GetStep(), report.GetFailure().GetReason(), steps)
	}
	touched := slices.Contains([]string{"activate", "prove"}, report.GetFailure().GetStep())
	if touched && !report.GetFailure().GetRestored() {
		report = m.await(t, "restored", func(r *api.PlacementReport) bool { return r.GetFailure().GetRestored() })
	}
	if err := m.serves(report); err != nil {
		t.Errorf("after %s: %v", what, err)
	}
	m.Host.OnReached(nil)
	m.want(t, m.patient)
	m.proven(t, from)
	m.calm()
	s.Tally.Count(func(r *table.Row) { r.Renewals++ })
}

// otherKeyType changes to RSA and back, which is no fault at all.
func (s *Subject) otherKeyType(t *testing.T, m *Member) {
	for _, algorithm := range []string{"rsa-2048", "ecdsa-p256"} {
		from := m.renew(t, func(d *api.DesiredPlacement) { d.Profile.Algorithm = algorithm })
		m.proven(t, from)
		is, err := pki.AlgorithmOf(s.leaf(t, m).PublicKey)
		if err != nil || string(is) != algorithm {
			t.Errorf("%s serves a key of type %s (%v), wanted %s", m.Name, is, err, algorithm)
		}
		s.Tally.Count(func(r *table.Row) { r.Renewals++ })
	}
}

// once does something at the next arrival at a point.
func (m *Member) once(point string, do func() error) {
	done := false
	m.Host.OnReached(func(at string) {
		if done || at != point {
			return
		}
		done = true
		if err := do(); err != nil {
			progress("%s: at %q: %v", m.Name, point, err)
		}
	})
}

// newest is the directory of the newest revision.
func newest(dir string) string {
	found, err := filepath.Glob(filepath.Join(dir, "rev-*"))
	if err != nil || len(found) == 0 {
		return dir
	}
	slices.Sort(found)
	return found[len(found)-1]
}

// replace puts a copy of a file in its place and changes that: the file itself
// may be the one in use too, under another name.
func replace(dir, name string, change func(path string) error) error {
	at := filepath.Join(dir, name)
	info, err := os.Stat(at)
	if os.IsNotExist(err) {
		return nil // this kind takes other files
	}
	if err != nil {
		return err
	}
	content, err := os.ReadFile(at)
	if err != nil {
		return err
	}
	copied := filepath.Join(dir, "."+name)
	if err := os.WriteFile(copied, content, info.Mode()); err != nil {
		return err
	}
	uid, gid := ownerOf(info)
	if err := os.Chown(copied, uid, gid); err != nil {
		return err
	}
	if err := change(copied); err != nil {
		return err
	}
	return os.Rename(copied, at)
}

func truncate(dir, name string) error {
	return replace(dir, name, func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()-40)
	})
}

// strangeKey puts another key into every file that holds one.
func strangeKey(dir string) error {
	key, err := pki.EncodeKeyPEM(otherKey())
	if err != nil {
		return err
	}
	if err := replace(dir, "key.pem", func(path string) error { return os.WriteFile(path, key, 0o600) }); err != nil {
		return err
	}
	return replace(dir, "combined.pem", func(path string) error {
		was, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, chain, found := strings.Cut(string(was), "-----BEGIN CERTIFICATE-----")
		if !found {
			return fmt.Errorf("%s holds no certificate", path)
		}
		return os.WriteFile(path, []byte(string(key)+"-----BEGIN CERTIFICATE-----"+chain), 0o600)
	})
}

func otherKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return key
}
