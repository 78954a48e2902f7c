package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func openRoot(t *testing.T) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if string(got) != want {
		t.Errorf("%s: %d bytes %.20q, want %d bytes %.20q", path, len(got), got, len(want), want)
	}
}

func wantEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if len(got) != len(want) {
		t.Fatalf("%s holds %q, want %q", dir, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s holds %q, want %q", dir, got, want)
		}
	}
}

func TestWriteFileSetsOwnerAndModeBeforeItIsVisible(t *testing.T) {
	root, dir := openRoot(t)
	owner := &Owner{UID: os.Getuid(), GID: os.Getgid()}
	if os.Getuid() == 0 {
		owner = &Owner{UID: 65534, GID: 65534}
	}
	looked := false
	err := writeFile(root, "key.pem", []byte("secret"), 0o640, owner, func(step string) error {
		if step != "rename" {
			return nil
		}
		looked = true
		if _, err := root.Lstat("key.pem"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("visible before the rename: %v", err)
		}
		entries, err := os.ReadDir(dir)
		must(t, err)
		info, err := entries[0].Info()
		must(t, err)
		stat := info.Sys().(*syscall.Stat_t)
		if info.Mode() != 0o640 || int(stat.Uid) != owner.UID || int(stat.Gid) != owner.GID {
			t.Errorf("just before the rename: mode %v, owner %d:%d", info.Mode(), stat.Uid, stat.Gid)
		}
		return nil
	})
	must(t, err)
	if !looked {
		t.Fatal("the rename was never reached")
	}
	wantContent(t, filepath.Join(dir, "key.pem"), "secret")
	wantEntries(t, dir, "key.pem")
}

func TestCreateFileLeavesAnExistingFileAlone(t *testing.T) {
	root, dir := openRoot(t)
	must(t, CreateFile(root, "boot", []byte("1"), 0o600, nil))
	err := CreateFile(root, "boot", []byte("2"), 0o600, nil)
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("second creation: %v, want fs.ErrExist", err)
	}
	wantContent(t, filepath.Join(dir, "boot"), "1")
	wantEntries(t, dir, "boot")
}

func TestNamesMustStayInside(t *testing.T) {
	root, _ := openRoot(t)
	for _, name := range []string{"", ".", "..", "../x", "/etc/x", "a/../../x"} {
		if err := WriteFile(root, name, nil, 0o600, nil); err == nil {
			t.Errorf("WriteFile(%q) succeeded", name)
		}
		if err := Mkdir(root, name, 0o700, nil); err == nil {
			t.Errorf("Mkdir(%q) succeeded", name)
		}
		if err := RemoveAll(root, name); err == nil {
			t.Errorf("RemoveAll(%q) succeeded", name)
		}
	}
	if err := SwapSymlink(root, "current", "../elsewhere"); err == nil {
		t.Error("a link out of the directory was made")
	}
	if err := SwapSymlink(root, "current", "/etc"); err == nil {
		t.Error("an absolute link was made")
	}
}

func TestLinksInTheWayAreRefused(t *testing.T) {
	root, dir := openRoot(t)
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "real", "victim"), []byte("precious"), 0o600))
	must(t, os.Symlink("real", filepath.Join(dir, "detour")))
	must(t, os.Symlink("real/victim", filepath.Join(dir, "cert.pem")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))

	refused := map[string]error{
		"write over a link":              WriteFile(root, "cert.pem", []byte("x"), 0o600, nil),
		"write over a dangling link":     WriteFile(root, "dangling", []byte("x"), 0o600, nil),
		"write over a directory":         WriteFile(root, "real", []byte("x"), 0o600, nil),
		"write through a link":           WriteFile(root, "detour/victim", []byte("x"), 0o600, nil),
		"create over a link":             CreateFile(root, "cert.pem", []byte("x"), 0o600, nil),
		"create through a link":          CreateFile(root, "detour/new", []byte("x"), 0o600, nil),
		"make a directory over a link":   Mkdir(root, "detour", 0o700, nil),
		"make a directory through a one": Mkdir(root, "detour/sub", 0o700, nil),
		"hard link of a link":            Link(root, "cert.pem", "copy"),
		"hard link through a link":       Link(root, "detour/victim", "copy"),
		"hard link into a link":          Link(root, "real/victim", "detour/copy"),
		"swap where a directory stands":  SwapSymlink(root, "real", "other"),
		"swap where a file stands":       SwapSymlink(root, "real/victim", "other"),
		"swap through a link":            SwapSymlink(root, "detour/current", "other"),
		"remove through a link":          Remove(root, "detour/victim"),
		"remove all through a link":      RemoveAll(root, "detour/victim"),
		"sync a link":                    SyncDir(root, "detour"),
	}
	if dir, err := OpenDir(root, "detour"); err == nil {
		dir.Close()
		t.Error("opened a link as a directory")
	}
	for what, err := range refused {
		if err == nil {
			t.Errorf("%s: succeeded", what)
		}
	}
	wantContent(t, filepath.Join(dir, "real", "victim"), "precious")
	wantEntries(t, filepath.Join(dir, "real"), "victim")

	must(t, RemoveAll(root, "detour")) // the link itself, not what it names
	wantContent(t, filepath.Join(dir, "real", "victim"), "precious")
}

// An attacker who may write in a parent swaps a directory for a link to
// another directory of the tree as fast as he can. Whatever comes out, nothing
// may ever land in that other directory.
func TestSwappedDirectoryNeverMisleadsAWrite(t *testing.T) {
	root, dir := openRoot(t)
	must(t, os.Mkdir(filepath.Join(dir, "precious"), 0o700))
	must(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	stop := make(chan struct{})
	var attacker sync.WaitGroup
	attacker.Go(func() {
		path, aside, link := filepath.Join(dir, "a"), filepath.Join(dir, "aside"), filepath.Join(dir, "link")
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.Rename(path, aside)
			os.Symlink("precious", link)
			os.Rename(link, path)
			os.Rename(path, link)
			os.Remove(link)
			os.Rename(aside, path)
		}
	})
	written := 0
	for range 3000 {
		if WriteFile(root, "a/file", []byte("x"), 0o600, nil) == nil {
			written++
		}
	}
	close(stop)
	attacker.Wait()
	t.Logf("%d of 3000 writes went through", written)
	wantEntries(t, filepath.Join(dir, "precious"))
}

// The same in slow motion: the exchange falls between looking and opening.
func TestDirectorySwappedAfterTheLookIsRefused(t *testing.T) {
	root, dir := openRoot(t)
	must(t, os.Mkdir(filepath.Join(dir, "precious"), 0o700))
	must(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	err := writeFile(root, "a/file", []byte("x"), 0o600, nil, func(step string) error {
		if step == "enter" {
			must(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "aside")))
			must(t, os.Symlink("precious", filepath.Join(dir, "a")))
		}
		return nil
	})
	if err == nil {
		t.Error("the write went through")
	}
	wantEntries(t, filepath.Join(dir, "precious"))
}

func TestMkdirKeepsADirectoryThatStands(t *testing.T) {
	root, dir := openRoot(t)
	must(t, Mkdir(root, "rev-1", 0o750, nil))
	info, err := os.Stat(filepath.Join(dir, "rev-1"))
	must(t, err)
	if info.Mode().Perm() != 0o750 {
		t.Errorf("mode %v, want 0750 whatever the umask", info.Mode())
	}
	must(t, WriteFile(root, "rev-1/cert.pem", []byte("x"), 0o644, nil))
	must(t, Mkdir(root, "rev-1", 0o700, nil))
	info, err = os.Stat(filepath.Join(dir, "rev-1"))
	must(t, err)
	if info.Mode().Perm() != 0o750 {
		t.Errorf("mode %v: a standing directory was changed", info.Mode())
	}
	wantEntries(t, filepath.Join(dir, "rev-1"), "cert.pem")
}

func TestSwapSymlinkNeverShowsNothing(t *testing.T) {
	root, dir := openRoot(t)
	must(t, os.WriteFile(filepath.Join(dir, "rev-a"), []byte("a"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "rev-b"), []byte("b"), 0o600))
	must(t, SwapSymlink(root, "current", "rev-a"))
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := os.ReadFile(filepath.Join(dir, "current")); err != nil {
				t.Errorf("reader: %v", err)
				return
			}
		}
	})
	for i := range 200 {
		must(t, SwapSymlink(root, "current", []string{"rev-a", "rev-b"}[i%2]))
	}
	close(stop)
	reader.Wait()
	must(t, SwapSymlink(root, "current", "rev-b")) // again the same: nothing to do
	wantContent(t, filepath.Join(dir, "current"), "b")
	wantEntries(t, dir, "current", "rev-a", "rev-b")
}

func TestLinkSharesTheFile(t *testing.T) {
	root, dir := openRoot(t)
	must(t, Mkdir(root, "rev-1", 0o700, nil))
	must(t, Mkdir(root, "rev-2", 0o700, nil))
	must(t, WriteFile(root, "rev-1/bundle.pem", []byte("x"), 0o644, nil))
	must(t, Link(root, "rev-1/bundle.pem", "rev-2/bundle.pem"))
	one, err := os.Stat(filepath.Join(dir, "rev-1", "bundle.pem"))
	must(t, err)
	two, err := os.Stat(filepath.Join(dir, "rev-2", "bundle.pem"))
	must(t, err)
	if !os.SameFile(one, two) {
		t.Error("the two names are of two files")
	}
	if err := Link(root, "rev-1/bundle.pem", "rev-2/bundle.pem"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("link over a file: %v, want fs.ErrExist", err)
	}
}

func TestRemoveOfWhatIsGone(t *testing.T) {
	root, _ := openRoot(t)
	must(t, Remove(root, "gone"))
	must(t, Remove(root, "gone/too"))
	must(t, RemoveAll(root, "gone"))
}
