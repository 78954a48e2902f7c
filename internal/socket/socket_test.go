package socket

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "a.sock")
	first, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info, err)
	}
	if _, err := Listen(path, 0o600); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a socket that is served: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as if it had been killed
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Listen(path, 0o666)
	if err != nil {
		t.Fatalf("a socket that a dead process left: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, 0o600); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("in the place of a file: %v", err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "precious" {
		t.Errorf("the file is %q, %v", content, err)
	}
}
