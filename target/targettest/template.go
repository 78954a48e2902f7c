package targettest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// templates are the data directories that were made for copying: making one
// takes a database seconds, copying it a fraction of one.
var templates sync.Map // name → *sync.Mutex

// template is a data directory as fill left it, kept in the temporary
// directory for the next process too: recipe is all that it depends on.
func template(t testing.TB, name, account, recipe string, fill func(dir string)) string {
	t.Helper()
	lock, _ := templates.LoadOrStore(name, &sync.Mutex{})
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	digest := sha256.Sum256([]byte(recipe))
	path := filepath.Join(os.TempDir(), fmt.Sprintf("rotunda-%s-%d-%x", name, os.Geteuid(), digest[:6]))
	if ours(t, path) {
		return filepath.Join(path, "data")
	}
	made := Dir(t, name+"-template-")
	data := filepath.Join(made, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	Own(t, data, account)
	fill(data)
	if err := os.Rename(made, path); err != nil && !ours(t, path) { // another process was as fast
		t.Fatal(err)
	}
	return filepath.Join(path, "data")
}

// ours says whether the path is there. In a directory that all may write to,
// what is not this user's own is not used.
func ours(t testing.TB, path string) bool {
	t.Helper()
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; !info.IsDir() || int(owner) != os.Geteuid() {
		t.Fatalf("%s is not a directory of this user's: remove it", path)
	}
	return true
}

// copyTree copies a data directory with its owners.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	output, err := exec.Command("cp", "-a", "--reflink=auto", from, to).CombinedOutput()
	if err != nil {
		t.Fatalf("copy %s: %v\n%s", from, err, output)
	}
}

// runAs runs a program as the account, with input, and fails the test unless
// it succeeds.
func runAs(t testing.TB, account, dir, input string, env []string, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Env = dir, strings.NewReader(input), append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if uid, gid, other := ids(t, account); other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, output)
	}
}
