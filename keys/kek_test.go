package keys

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newTestKEK(t testing.TB) (*KEK, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	if err := NewKEKFile(path); err != nil {
		t.Fatal(err)
	}
	kek, err := OpenKEK(Source{File: path})
	if err != nil {
		t.Fatal(err)
	}
	return kek, path
}

func TestKEKSealsAndOpens(t *testing.T) {
	kek, path := newTestKEK(t)
	again, err := OpenKEK(Source{File: path})
	if err != nil || again.ID() != kek.ID() || len(kek.ID()) != 16 {
		t.Fatalf("ID %s, then %s, %v", kek.ID(), again.ID(), err)
	}
	plain, aad := []byte("a private key"), []byte("authority 7")
	one, err := kek.Wrap(plain, aad)
	if err != nil {
		t.Fatal(err)
	}
	two, err := kek.Wrap(plain, aad)
	if err != nil || bytes.Equal(one, two) || bytes.Contains(one, plain) {
		t.Fatalf("sealing twice gives the same, or shows the key: %v", err)
	}
	for _, sealed := range [][]byte{one, two} {
		if got, err := again.Unwrap(kek.ID(), sealed, aad); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("opened %q, %v", got, err)
		}
	}
}

func TestWrongKEKIsNamed(t *testing.T) {
	wanted, _ := newTestKEK(t)
	here, _ := newTestKEK(t)
	sealed, err := wanted.Wrap([]byte("k"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = here.Unwrap(wanted.ID(), sealed, nil)
	if err == nil || fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "sealed by KEK "+wanted.ID()) ||
		!strings.Contains(err.Error(), "this server has KEK "+here.ID()) {
		t.Errorf("got %v", err)
	}
	// A record that lies about its KEK does not open either.
	if _, err := here.Unwrap(here.ID(), sealed, nil); err == nil {
		t.Error("opened by the wrong key")
	}
}

// No bit of a sealed key, nor of what it is bound to, can be changed unseen.
func TestAlteredSealDoesNotOpen(t *testing.T) {
	kek, _ := newTestKEK(t)
	aad := []byte("authority 7")
	sealed, err := kek.Wrap([]byte("a private key"), aad)
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x40
		if _, err := kek.Unwrap(kek.ID(), bad, aad); err == nil {
			t.Errorf("opened with byte %d changed", i)
		}
		if _, err := kek.Unwrap(kek.ID(), sealed[:i], aad); err == nil {
			t.Errorf("opened when cut to %d bytes", i)
		}
	}
	for _, other := range [][]byte{nil, []byte("authority 8"), append(aad, 0)} {
		if _, err := kek.Unwrap(kek.ID(), sealed, other); err == nil || !strings.Contains(err.Error(), "altered") {
			t.Errorf("bound to %q: %v", other, err)
		}
	}
}

func TestKEKFileIsNeverOverwritten(t *testing.T) {
	_, path := newTestKEK(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := NewKEKFile(path); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("got %v, want a conflict", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file changed: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestBadKEKFiles(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(make([]byte, kekSize))
	for name, c := range map[string]struct {
		content string
		mode    fs.FileMode
		rule    string
	}{
		"empty":          {"", 0o600, "is empty"},
		"garbage":        {"not base64 at all!", 0o600, "is damaged"},
		"cut":            {good[:20], 0o600, "it has 20 characters"},
		"one byte less":  {base64.StdEncoding.EncodeToString(make([]byte, kekSize-1)), 0o600, "is damaged"},
		"one byte more":  {base64.StdEncoding.EncodeToString(make([]byte, kekSize+1)), 0o600, "is damaged"},
		"two lines":      {good + "\n" + good, 0o600, "is damaged"},
		"too long":       {strings.Repeat("A", maxSecret+1), 0o600, "the most is"},
		"group reads":    {good, 0o640, "chmod 600"},
		"others read":    {good, 0o604, "chmod 600"},
		"group writes":   {good, 0o620, "chmod 600"},
		"others execute": {good, 0o601, "chmod 600"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kek")
			write(t, path, c.content, c.mode)
			_, err := OpenKEK(Source{File: path})
			if err == nil || !strings.Contains(err.Error(), c.rule) || fault.CodeOf(err) != fault.Invalid {
				t.Fatalf("got %v, want %q", err, c.rule)
			}
			if strings.Contains(err.Error(), good) {
				t.Error("the error shows the key")
			}
		})
	}
}

func write(t testing.TB, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestOddPlacesForAKEK(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		source Source
		rule   string
	}{
		"none":                       {Source{}, "no source"},
		"both":                       {Source{File: "a", Credential: "b"}, "two sources"},
		"missing":                    {Source{File: filepath.Join(dir, "none")}, "does not exist"},
		"directory":                  {Source{File: dir}, "not a regular file"},
		"pipe":                       {Source{File: pipe}, "not a regular file"},
		"path as credential":         {Source{Credential: "../kek"}, "plain name"},
		"credential without systemd": {Source{Credential: "kek"}, "LoadCredential="},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", "")
			if _, err := OpenKEK(c.source); err == nil || !strings.Contains(err.Error(), c.rule) {
				t.Errorf("got %v, want %q", err, c.rule)
			}
		})
	}
	if err := NewKEKFile(filepath.Join(dir, "no", "kek")); err == nil {
		t.Error("a file was made in no directory")
	}
}

// systemd's credentials show their access list's mask as the group's
// permissions; others must still have none.
func TestKEKFromCredential(t *testing.T) {
	kek, path := newTestKEK(t)
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
	for mode, ok := range map[fs.FileMode]bool{0o400: true, 0o440: true, 0o444: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		got, err := OpenKEK(Source{Credential: "kek"})
		if (err == nil) != ok || (ok && got.ID() != kek.ID()) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if _, err := OpenKEK(Source{Credential: "other"}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("another credential: %v", err)
	}
}

func FuzzUnwrap(f *testing.F) {
	kek, err := newKEK(make([]byte, kekSize))
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := kek.Wrap([]byte("plain"), []byte("aad"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, []byte("aad"))
	f.Add([]byte{sealVersion}, []byte{})
	f.Fuzz(func(t *testing.T, data, aad []byte) {
		plain, err := kek.Unwrap(kek.ID(), data, aad)
		// Other processes of the fuzzer have seals of their own of the same.
		if err == nil && (string(plain) != "plain" || string(aad) != "aad" || len(data) != len(sealed)) {
			t.Fatalf("opened %x, which nobody sealed", data)
		}
	})
}
