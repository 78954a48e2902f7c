package agent

import (
	"bytes"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
)

var allFormats = []fleet.Format{fleet.FormatPEM, fleet.FormatCombined, fleet.FormatPKCS12, fleet.FormatJKS}

func issuedCredential(t testing.TB, l *lab, algorithm pki.KeyAlgorithm) *credential {
	t.Helper()
	key, err := algorithm.Generate()
	check(t, err)
	names, err := pki.ParseNames("", []string{"orders.lab.test"}, nil, "")
	check(t, err)
	prepared, err := l.roots["a"].authority.Prepare(time.Now(), ca.Request{PublicKey: key.Public(), Names: names, Terms: ca.Terms{Lifetime: time.Hour, Backdate: time.Minute, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}})
	check(t, err)
	issued, err := l.roots["a"].authority.Issue(prepared)
	check(t, err)
	chain, err := pki.ParseChainDER(issued.Chain)
	check(t, err)
	return &credential{key, chain}
}

// Every file reads back as what was written, for every algorithm; with a byte
// less it does not; with another password keystores do not.
func TestFilesReadBack(t *testing.T) {
	l := newLab(t)
	b := l.bundle("a", "b")
	password := []byte("correct horse")
	crls := l.crls(1, time.Now())
	s := besides{crls: crls, single: crls.Of(l.roots["a"].authority.Certificate), config: []byte("# no CRLs\n"), staple: []byte{0x30, 0}}
	w := &wish{staleCRL: fleet.StaleOpen, files: filesWish{formats: allFormats}, adapter: nginxAdapter(t)}
	want := w.wantedNames(rotation.Revision{Generation: 1, CRL: rotation.Dated{Digest: crls.Digest()}, Staple: rotation.Dated{Digest: pki.Fingerprint{1}}})
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519, pki.RSA2048} {
		c := issuedCredential(t, l, algorithm)
		other := issuedCredential(t, l, algorithm)
		files, err := contents(allFormats, c, b, s, password, time.Now())
		check(t, err)
		if len(files) != len(want) {
			t.Errorf("%d files, %v wanted", len(files), want)
		}
		for _, file := range files {
			data, err := file.write()
			check(t, err)
			if err := readFile(file.name, data, c, b, s, password); err != nil {
				t.Errorf("%s, %s: %v", algorithm, file.name, err)
			}
			if file.secret != secretFile(file.name) {
				t.Errorf("%s: secret is %v", file.name, file.secret)
			}
			for _, broken := range [][]byte{nil, data[:len(data)-2], data[1:], append(bytes.Clone(data), []byte("x")...), bytes.Repeat([]byte{0x30}, 100)} {
				if err := readFile(file.name, broken, c, b, s, password); err == nil && !trailing(file.name, broken, data) {
					t.Errorf("%s, %s: %d of %d bytes read back as well", algorithm, file.name, len(broken), len(data))
				}
			}
			if beside := strings.Contains(file.name, "crl") || strings.Contains(file.name, "staple") || strings.HasSuffix(file.name, ".ocsp"); beside {
				if err := readFile(file.name, data, c, b, besides{config: []byte("x")}, password); err == nil {
					t.Errorf("%s reads back as another", file.name)
				}
			} else if strings.Contains(file.name, "bundle") || strings.Contains(file.name, "truststore") {
				if err := readFile(file.name, data, c, l.bundle("a"), s, password); err == nil {
					t.Errorf("%s reads back as another bundle", file.name)
				}
			} else if err := readFile(file.name, data, other, b, s, password); err == nil {
				t.Errorf("%s reads back as another credential", file.name)
			}
			if strings.Contains(file.name, "store") {
				if err := readFile(file.name, data, c, b, s, []byte("wrong")); err == nil {
					t.Errorf("%s opens with another password", file.name)
				}
			}
		}
	}
}

// trailing knows the one form in which more bytes mean nothing: a Java keystore
// ends where its own digest does.
func trailing(name string, broken, data []byte) bool {
	return strings.HasSuffix(name, ".jks") && bytes.HasPrefix(broken, data)
}

func TestKeystoresOnDisk(t *testing.T) {
	l := newLab(t)
	check(t, os.WriteFile(filepath.Join(l.dir, "password"), []byte("correct horse\n"), 0o600))
	l.want("p1", func(d *api.DesiredPlacement) {
		d.Files.Formats, d.Files.Password = []string{"pem", "combined", "pkcs12", "jks"}, "keystore"
	})
	l.run()
	l.steady("p1", 1)
	current := filepath.Join(l.path("p1"), "current")
	for _, name := range []string{"combined.pem", "keystore.p12", "keystore.jks", "key.pem"} {
		info, err := os.Stat(filepath.Join(current, name))
		check(t, err)
		if info.Mode().Perm() != 0o640 {
			t.Errorf("%s holds a key and has mode %v", name, info.Mode())
		}
	}
	// OpenSSL and Java, whose files these are, read them.
	output, err := exec.Command("openssl", "pkcs12", "-in", filepath.Join(current, "keystore.p12"), "-passin", "pass:correct horse", "-noenc").CombinedOutput()
	if err != nil || bytes.Count(output, []byte("BEGIN CERTIFICATE")) != 2 || !bytes.Contains(output, []byte("PRIVATE KEY")) {
		t.Errorf("openssl (apt-get install openssl): %v\n%s", err, output)
	}
	// A keystore's salts are fresh each time; unchanged ones are linked all the
	// same, and changed ones are not.
	l.want("p1", func(d *api.DesiredPlacement) { d.BundleDigest = l.bundle("a", "b").Digest().String() })
	l.until("p1", "with the new bundle", func(r *api.PlacementReport) bool {
		return r.GetRevision() == 2 && r.GetState() == api.State_STATE_STEADY
	})
	if inode(t, l, "rev-000001/keystore.p12") != inode(t, l, "rev-000002/keystore.p12") {
		t.Error("an unchanged keystore was written anew")
	}
	if inode(t, l, "rev-000001/truststore.jks") == inode(t, l, "rev-000002/truststore.jks") {
		t.Error("a truststore with another bundle is the same file")
	}
}

// FuzzReadFile reads files of a revision as someone may have left them.
func FuzzReadFile(f *testing.F) {
	l := newLab(f)
	c, b := issuedCredential(f, l, pki.ECDSAP256), l.bundle("a")
	password := []byte("correct horse")
	crls := l.crls(1, time.Now())
	s := besides{crls: crls, staple: []byte{0x30, 0}}
	files, err := contents(allFormats, c, b, s, password, time.Now())
	check(f, err)
	for i, file := range files {
		data, err := file.write()
		check(f, err)
		f.Add(i, data)
	}
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		file := files[(i%len(files)+len(files))%len(files)]
		_ = readFile(file.name, data, c, b, s, password) // must not panic, whatever it says
	})
}

// FuzzRecord opens records as a disk may have left them.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"lastGeneration":1,"generations":[{"number":1}],"revisions":[{"number":1,"generation":1}],"files":{"1":[]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		root, err := os.OpenRoot(t.TempDir())
		check(t, err)
		defer root.Close()
		check(t, root.Mkdir("p", 0o700))
		check(t, root.WriteFile("p/"+recordFile, text, 0o600))
		d := drawer{root: root, dir: "p"}
		r, aside, err := d.open()
		check(t, err)
		if aside != "" {
			if kept, err := root.ReadFile("p/" + aside); err != nil || !bytes.Equal(kept, text) {
				t.Errorf("the broken record was not kept: %v", err)
			}
			return
		}
		check(t, d.save(&r))
		check(t, d.sweep(&r))
	})
}
