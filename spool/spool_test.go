package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

var ours = Owner{TrustDomain: "prod.example", LogKey: "prod.example/audit+1+abc", Epoch: 3}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func reopen(t *testing.T, dir string) (*Spool, [][]byte) {
	t.Helper()
	s, held, err := Open(dir, ours)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s, held
}

func words(records [][]byte) string { return string(bytes.Join(records, []byte(" "))) }

// What was appended is there, in its order, and once it was cleared it is not.
func TestRecordsAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	if Exists(dir) {
		t.Error("it is there before it was made")
	}
	s, held := reopen(t, dir)
	if len(held) != 0 || !Exists(dir) {
		t.Errorf("a new one holds %q", held)
	}
	must(t, s.Append([]byte("one"), []byte("two")))
	must(t, s.Append([]byte("three")))
	read, err := s.Records()
	must(t, err)
	if words(read) != "one two three" || s.Len() != 3 {
		t.Errorf("%d records: %s", s.Len(), words(read))
	}
	must(t, s.Close())
	s, held = reopen(t, dir)
	if words(held) != "one two three" || s.Aside() != "" {
		t.Errorf("opened again: %s, %q set aside", words(held), s.Aside())
	}
	must(t, s.Clear(ours))
	must(t, s.Append([]byte("four")))
	must(t, s.Close())
	if _, held = reopen(t, dir); words(held) != "four" {
		t.Errorf("after it was cleared: %s", words(held))
	}
}

// A crash may cut the file at any byte: what was whole before is there, of the rest
// nothing, and the next record stands behind it.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	s, _ := reopen(t, dir)
	must(t, s.Append([]byte("first")))
	path := filepath.Join(dir, Name)
	before, err := os.ReadFile(path)
	must(t, err)
	must(t, s.Append([]byte("second")))
	must(t, s.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	for at := len(before); at < len(whole); at++ {
		for name, tail := range map[string][]byte{"cut": whole[:at], "holes": append(bytes.Clone(whole[:at]), make([]byte, len(whole)-at)...)} {
			if bytes.Equal(tail, whole) {
				continue
			}
			must(t, os.WriteFile(path, tail, 0o600))
			s, held, err := Open(dir, ours)
			must(t, err)
			if words(held) != "first" {
				t.Fatalf("%s at byte %d: %q", name, at, held)
			}
			must(t, s.Append([]byte("third")))
			must(t, s.Close())
			s, held, err = Open(dir, ours)
			must(t, err)
			must(t, s.Close())
			if words(held) != "first third" {
				t.Fatalf("%s at byte %d, then one more: %q", name, at, held)
			}
		}
	}
}

// What stood behind a tail that was cut does not come back behind the next record, and
// is kept beside the spool.
func TestGhost(t *testing.T) {
	dir := t.TempDir()
	s, _ := reopen(t, dir)
	must(t, s.Append([]byte("first")))
	at := s.size
	must(t, s.Append([]byte("xxxxx"), []byte("ghost")))
	must(t, s.Close())
	path := filepath.Join(dir, Name)
	content, err := os.ReadFile(path)
	must(t, err)
	content[at+8] = 'y'
	must(t, os.WriteFile(path, content, 0o600))
	s, held := reopen(t, dir)
	if aside, err := os.ReadFile(s.Aside()); string(aside) != string(content[at:]) {
		t.Errorf("set aside: %q, %v", aside, err)
	}
	must(t, s.Append([]byte("third")))
	must(t, s.Close())
	if _, after := reopen(t, dir); words(held) != "first" || words(after) != "first third" {
		t.Errorf("%q, then %q", held, after)
	}
}

// What is not this installation's, or no spool, is refused and left as it is.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		owner   Owner
		content string
		code    fault.Code
		says    string
	}{
		"another trust domain":         {Owner{"dev.example", ours.LogKey, 3}, "", fault.Conflict, "is of another installation, of trust domain prod.example"},
		"another of the same name":     {Owner{"prod.example", "prod.example/audit+2+def", 3}, "", fault.Conflict, "put it where it came from"},
		"no spool":                     {ours, "something else that somebody keeps here", fault.Invalid, "is no spool"},
		"empty":                        {ours, " ", fault.Invalid, "is no spool"},
		"its beginning and no owner":   {ours, magic, fault.Invalid, "is no spool, or its beginning is damaged"},
		"its beginning, damaged owner": {ours, magic + "\x00\x00\x00\x02\x00\x00\x00\x00{}", fault.Invalid, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := reopen(t, dir)
			must(t, s.Append([]byte("kept")))
			must(t, s.Close())
			path := filepath.Join(dir, Name)
			if c.content != "" {
				must(t, os.WriteFile(path, []byte(c.content), 0o600))
			}
			before, err := os.ReadFile(path)
			must(t, err)
			_, _, err = Open(dir, c.owner)
			if fault.CodeOf(err) != c.code || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%v", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("it was changed: %v", err)
			}
		})
	}
	// An older epoch of the same store is ours yet.
	dir := t.TempDir()
	s, _ := reopen(t, dir)
	must(t, s.Append([]byte("kept")))
	must(t, s.Close())
	later := ours
	later.Epoch++
	s, held, err := Open(dir, later)
	must(t, err)
	defer s.Close()
	if s.Owner() != ours || words(held) != "kept" {
		t.Errorf("%v holds %q", s.Owner(), held)
	}
}

// Two processes don't share one.
func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s, _ := reopen(t, dir)
	for range 2 { // begun anew it is another file
		if _, _, err := Open(dir, ours); fault.CodeOf(err) != fault.Conflict {
			t.Errorf("opened twice: %v", err)
		}
		must(t, s.Clear(ours))
	}
}

// On a disk that takes no more, or where nothing may be written, it is said with a
// remedy; what was there before stays whole, and goes on when there is room.
func TestDiskRefuses(t *testing.T) {
	for _, how := range []string{"full", "readonly"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := reopen(t, dir)
			must(t, s.Append([]byte("before")))
			must(t, s.Close())
			must(t, os.Chmod(filepath.Dir(dir), 0o755))
			child := exec.Command(os.Args[0], "-test.run=^TestChild$")
			child.Env = append(os.Environ(), "SPOOL_CHILD="+how, "SPOOL_DIR="+dir)
			output, err := child.CombinedOutput()
			must(t, os.Chmod(dir, 0o700))
			if err != nil {
				t.Fatalf("child: %v\n%s", err, output)
			}
			want := map[string]string{"full": "before small", "readonly": "before"}[how]
			if _, held := reopen(t, dir); words(held) != want {
				t.Errorf("afterwards %q", held)
			}
		})
	}
}

// TestChild is the process that the test above starts.
func TestChild(t *testing.T) {
	dir := os.Getenv("SPOOL_DIR")
	switch os.Getenv("SPOOL_CHILD") {
	case "full":
		s, _ := reopen(t, dir)
		limit := syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}
		must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
		err := s.Append(make([]byte, 40<<10), make([]byte, 40<<10))
		if fault.CodeOf(err) != fault.Unavailable || !IsFull(err) || !strings.Contains(fmt.Sprint(err), "make room on its disk") {
			t.Errorf("on a full disk: %v", err)
		}
		must(t, s.Append([]byte("small"))) // none of the ones before is there
	case "readonly":
		must(t, os.Chmod(dir, 0o500))
		must(t, os.Chmod(filepath.Join(dir, Name), 0o400))
		if os.Getuid() == 0 {
			must(t, syscall.Setresuid(65534, 65534, 65534))
		}
		_, _, err := Open(dir, ours)
		if fault.CodeOf(err) != fault.Unavailable || IsFull(err) || !strings.Contains(fmt.Sprint(err), "let this server's user write there") {
			t.Errorf("where nothing may be written: %v", err)
		}
		if _, _, err := Open(filepath.Join(dir, "new"), ours); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("a new one there: %v", err)
		}
	}
}

// What fsync has not brought to the disk is never said to be there.
func TestFailedFsync(t *testing.T) {
	s, _ := reopen(t, t.TempDir())
	s.file.Close()
	if err := s.Append([]byte("x")); err == nil {
		t.Error("written to a closed file")
	}
	if err := s.Append([]byte("x")); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Error("written after a failure")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(magic))
	f.Add([]byte(magic + "\x00\x00\x00\x01\xff\xff\xff\xffx"))
	f.Fuzz(func(t *testing.T, content []byte) {
		records, whole := parse(content)
		if whole > int64(len(content)) {
			t.Fatal("more whole than there is")
		}
		var out bytes.Buffer
		if out.WriteString(magic); len(records) == 0 {
			return
		}
		for _, record := range records {
			frame(&out, record)
		}
		if !bytes.Equal(out.Bytes(), content[:whole]) {
			t.Fatal("what is whole is something else")
		}
	})
}
