package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The operations under test, each from the state that prepare leaves.
var operations = map[string]struct {
	steps []string
	run   func(root *os.Root, h hook) error
}{
	"write": {
		steps: []string{"create", "write", "own", "sync", "rename", "sync directory"},
		run: func(root *os.Root, h hook) error {
			return writeFile(root, "file", []byte(newContent), 0o600, nil, h)
		},
	},
	"create": {
		steps: []string{"create", "write", "own", "sync", "link", "sync directory"},
		run: func(root *os.Root, h hook) error {
			return createFile(root, "fresh", []byte(newContent), 0o600, nil, h)
		},
	},
	"mkdir": {
		steps: []string{"create", "own", "rename", "sync directory"},
		run: func(root *os.Root, h hook) error {
			return mkdir(root, "dir", 0o750, nil, h)
		},
	},
	"swap": {
		steps: []string{"create", "rename", "sync directory"},
		run: func(root *os.Root, h hook) error {
			return swapSymlink(root, "current", "new", h)
		},
	},
}

var (
	oldContent = strings.Repeat("old", 20_000)
	newContent = strings.Repeat("new!", 30_000)
)

func prepare(t *testing.T) (*os.Root, string) {
	root, dir := openRoot(t)
	must(t, WriteFile(root, "file", []byte(oldContent), 0o600, nil))
	must(t, SwapSymlink(root, "current", "old"))
	return root, dir
}

// wantWhole checks that each thing is as before the operation or as after it.
func wantWhole(t *testing.T, dir string) (changed bool) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "file"))
	must(t, err)
	switch string(content) {
	case oldContent:
	case newContent:
		changed = true
	default:
		t.Errorf("file is torn: %d bytes", len(content))
	}
	if content, err := os.ReadFile(filepath.Join(dir, "fresh")); err == nil {
		changed = true
		if string(content) != newContent {
			t.Errorf("fresh is torn: %d bytes", len(content))
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "dir")); err == nil {
		changed = true
		if info.Mode().Perm() != 0o750 {
			t.Errorf("dir is visible with mode %v", info.Mode())
		}
	}
	target, err := os.Readlink(filepath.Join(dir, "current"))
	must(t, err)
	if target != "old" && target != "new" {
		t.Errorf("current points to %q", target)
	}
	return changed || target == "new"
}

func TestFailureAtEachStepLeavesTheOldStateWhole(t *testing.T) {
	for name, operation := range operations {
		for _, step := range operation.steps {
			for _, cause := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO} {
				root, dir := prepare(t)
				err := operation.run(root, func(at string) error {
					if at == step {
						return cause
					}
					return nil
				})
				if !errors.Is(err, cause) {
					t.Errorf("%s, failing at %s: %v, want %v", name, step, err, cause)
				}
				changed := wantWhole(t, dir)
				if want := step == "sync directory"; changed != want {
					t.Errorf("%s, failing at %s: changed is %v", name, step, changed)
				}
				if left, err := Sweep(root, "."); err != nil || left != 0 {
					t.Errorf("%s, failing at %s: %d temporary files left, %v", name, step, left, err)
				}
			}
		}
	}
}

// The steps listed above are all there are: a step that is not listed would
// never be tested.
func TestStepsAreComplete(t *testing.T) {
	for name, operation := range operations {
		root, _ := prepare(t)
		var seen []string
		must(t, operation.run(root, func(at string) error {
			seen = append(seen, at)
			return nil
		}))
		if fmt.Sprint(seen) != fmt.Sprint(operation.steps) {
			t.Errorf("%s passes %q, listed are %q", name, seen, operation.steps)
		}
	}
}

func TestKillAtEachStepLeavesOneWholeState(t *testing.T) {
	for name, operation := range operations {
		for _, step := range operation.steps {
			t.Run(name+"/"+step, func(t *testing.T) {
				root, dir := prepare(t)
				child := exec.Command(os.Args[0], "-test.run=^TestChild$")
				child.Env = append(os.Environ(), "DURABLE_CHILD=kill", "DURABLE_OPERATION="+name, "DURABLE_STEP="+step, "DURABLE_DIR="+dir)
				output, err := child.CombinedOutput()
				exit, ok := errors.AsType[*exec.ExitError](err)
				if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("child was not killed: %v\n%s", err, output)
				}
				wantWhole(t, dir)
				if _, err := Sweep(root, "."); err != nil {
					t.Fatal(err)
				}
				// The next process carries on.
				if err := operation.run(root, nil); err != nil && !(name == "create" && errors.Is(err, fs.ErrExist)) {
					t.Fatal(err)
				}
				if !wantWhole(t, dir) {
					t.Error("the repetition changed nothing")
				}
				if left, err := Sweep(root, "."); err != nil || left != 0 {
					t.Errorf("%d temporary files left, %v", left, err)
				}
			})
		}
	}
}

// The kernel itself refuses: a file may not grow beyond a limit (as on a full
// disk, the write comes back short), a directory may not be written.
func TestKernelRefusalLeavesTheOldContent(t *testing.T) {
	for _, how := range []string{"limit", "readonly"} {
		t.Run(how, func(t *testing.T) {
			root, dir := prepare(t)
			child := exec.Command(os.Args[0], "-test.run=^TestChild$")
			child.Env = append(os.Environ(), "DURABLE_CHILD="+how, "DURABLE_DIR="+dir)
			output, err := child.CombinedOutput()
			must(t, os.Chmod(dir, 0o700))
			if err != nil {
				t.Fatalf("child: %v\n%s", err, output)
			}
			if wantWhole(t, dir) {
				t.Error("something changed")
			}
			if left, err := Sweep(root, "."); err != nil || left != 0 {
				t.Errorf("%d temporary files left, %v", left, err)
			}
		})
	}
}

// TestChild is the process that the tests above start; by itself it has
// nothing to do.
func TestChild(t *testing.T) {
	mode := os.Getenv("DURABLE_CHILD")
	if mode == "" {
		return
	}
	root, err := os.OpenRoot(os.Getenv("DURABLE_DIR"))
	must(t, err)
	var want error
	switch mode {
	case "kill":
		err = operations[os.Getenv("DURABLE_OPERATION")].run(root, func(at string) error {
			if at == os.Getenv("DURABLE_STEP") {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		})
		t.Fatalf("survived: %v", err)
	case "limit":
		limit := syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}
		must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
		want = syscall.EFBIG
	case "readonly":
		must(t, os.Chmod(os.Getenv("DURABLE_DIR"), 0o555))
		if os.Getuid() == 0 {
			must(t, syscall.Setresuid(65534, 65534, 65534))
		}
		want = syscall.EACCES
	}
	if err := operations["write"].run(root, nil); !errors.Is(err, want) {
		t.Errorf("write: %v, want %v", err, want)
	}
}
