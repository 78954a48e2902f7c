package keys

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"filippo.io/age/armor"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

func same(a, b crypto.Signer) bool {
	return a.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(b.Public())
}

func TestPlainKeyFile(t *testing.T) {
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.Ed25519, pki.RSA2048} {
		path := filepath.Join(t.TempDir(), "key.pem")
		made, err := CreateFile(path, algorithm, nil)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		asked := func() ([]byte, error) { t.Error("asked for a passphrase that is not needed"); return nil, nil }
		opened, err := OpenFile(path, asked)
		if err != nil || !same(made, opened) {
			t.Errorf("%s: another key, %v", algorithm, err)
		}
		if _, err := CreateFile(path, algorithm, nil); fault.CodeOf(err) != fault.Conflict {
			t.Errorf("created over a key: %v", err)
		}
		if still, err := OpenFile(path, nil); err != nil || !same(made, still) {
			t.Errorf("the key changed: %v", err)
		}
	}
}

func TestPassphraseKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	made, err := CreateFile(path, pki.ECDSAP256, []byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(data, []byte("-----BEGIN AGE ENCRYPTED FILE-----")) || bytes.Contains(data, []byte("PRIVATE KEY")) {
		t.Fatalf("the file is not encrypted: %v", err)
	}
	say := func(word string) func() ([]byte, error) {
		return func() ([]byte, error) { return []byte(word), nil }
	}
	opened, err := OpenFile(path, say("correct horse"))
	if err != nil || !same(made, opened) {
		t.Errorf("another key, %v", err)
	}
	if _, err := OpenFile(path, say("wrong horse")); fault.CodeOf(err) != fault.Forbidden || !strings.Contains(err.Error(), "passphrase is wrong") {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, err := OpenFile(path, nil); err == nil || !strings.Contains(err.Error(), "nobody to ask") {
		t.Errorf("no passphrase: %v", err)
	}
	gone := errors.New("terminal closed")
	if _, err := OpenFile(path, func() ([]byte, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("the asker's error: %v", err)
	}
	if _, err := CreateFile(filepath.Join(t.TempDir(), "k"), pki.ECDSAP256, []byte{}); err == nil {
		t.Error("an empty passphrase was taken")
	}
}

// A low cost serves where the content matters, not the strength.
func TestDamagedEncryptedFile(t *testing.T) {
	good, err := encrypt([]byte("-----BEGIN x"), []byte("word"), 2)
	if err != nil {
		t.Fatal(err)
	}
	costly := withCost(t, good, maxWorkFactor+1)
	for name, c := range map[string]struct {
		data []byte
		rule string
	}{
		"cut":             {good[:len(good)/2], "it is damaged"},
		"changed":         {bytes.Replace(good, []byte("\n"), []byte("\nA"), 2), "it is damaged"},
		"only a header":   {[]byte("-----BEGIN AGE ENCRYPTED FILE-----\n"), "it is damaged"},
		"made to exhaust": {costly, "work factor"},
		"no key inside":   {good, "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			write(t, path, string(c.data), 0o600)
			_, err := OpenFile(path, func() ([]byte, error) { return []byte("word"), nil })
			if err == nil || !strings.Contains(err.Error(), c.rule) || !strings.Contains(err.Error(), path) || fault.CodeOf(err) != fault.Invalid {
				t.Errorf("got %v, want %q", err, c.rule)
			}
		})
	}
}

// withCost rewrites the cost in the header of an armored file made with cost 2.
func withCost(t *testing.T, data []byte, cost int) []byte {
	t.Helper()
	plain, err := io.ReadAll(armor.NewReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	changed := regexp.MustCompile(`(?m)^(-> scrypt \S+) 2$`).ReplaceAll(plain, fmt.Appendf(nil, "$1 %d", cost))
	if bytes.Equal(changed, plain) {
		t.Fatal("the header has no cost")
	}
	var out bytes.Buffer
	w := armor.NewWriter(&out)
	if _, err := w.Write(changed); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBadKeyFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	if _, err := CreateFile(path, pki.ECDSAP256, nil); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(path, nil); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("readable by the group: %v", err)
	}
	if _, err := OpenFile(filepath.Join(dir, "none"), nil); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("missing: %v", err)
	}
	for name, c := range map[string]struct{ content, rule string }{
		"cut":     {string(good[:100]), "cut short"},
		"garbage": {"garbage", "not PEM"},
		"damaged": {strings.Replace(string(good), "M", "!", 1), "damaged"},
	} {
		bad := filepath.Join(dir, name)
		write(t, bad, c.content, 0o600)
		if _, err := OpenFile(bad, nil); err == nil || !strings.Contains(err.Error(), c.rule) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: got %v, want %q", name, err, c.rule)
		}
	}
}
