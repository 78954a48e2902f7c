package process_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/demo/process"
)

// role makes this test binary play a child: what it does is in the variable.
const role = "PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "ready":
		if err := process.Ready(); err != nil {
			panic(err)
		}
		select {}
	case "broken":
		println("there is something wrong here")
		os.Exit(3)
	case "wordy":
		println("no such flag")
		os.Exit(64)
	}
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartsWhatSaysThatItIsReady(t *testing.T) {
	family := process.NewFamily(t.TempDir())
	defer family.End()
	p, err := family.StartReady(context.Background(), "child", []string{role + "=ready"}, self(t))
	if err != nil {
		t.Fatal(err)
	}
	if ids := family.IDs(); len(ids) != 1 || ids[0] != p.PID {
		t.Errorf("the family runs as %v, want %d", ids, p.PID)
	}
	family.End()
	select {
	case <-p.Done():
	default:
		t.Error("the family ended, and its child runs on")
	}
	if ids := family.IDs(); len(ids) != 0 {
		t.Errorf("the family ended, and runs as %v", ids)
	}
	if _, err := family.Start("late", nil, self(t)); err == nil {
		t.Error("a family that ended took in another child")
	}
	select {
	case lost := <-family.Lost():
		t.Errorf("%s was asked to end, and counts as lost", lost.Name)
	default:
	}
}

func TestSaysWhyAProcessDidNotBecomeReady(t *testing.T) {
	family := process.NewFamily(t.TempDir())
	defer family.End()
	_, err := family.StartReady(context.Background(), "child", []string{role + "=broken"}, self(t))
	if err == nil {
		t.Fatal("a process that failed counts as ready")
	}
	for _, words := range []string{"child", "exit status 3", "there is something wrong here"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not say %q", err, words)
		}
	}
}

func TestReportsTheFirstProcessThatIsLost(t *testing.T) {
	family := process.NewFamily(t.TempDir())
	defer family.End()
	if _, err := family.StartReady(context.Background(), "stays", []string{role + "=ready"}, self(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := family.Start("goes", []string{role + "=broken"}, self(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case lost := <-family.Lost():
		if lost.Name != "goes" {
			t.Errorf("%s is lost, and goes went", lost.Name)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody noticed that a process is gone")
	}
}

func TestRunHoldsWhatACommandComplainedOf(t *testing.T) {
	_, err := process.Run(context.Background(), []string{role + "=wordy"}, self(t), "--nonsense")
	if err == nil || !strings.Contains(err.Error(), "no such flag") || !strings.Contains(err.Error(), filepath.Base(self(t))+" --nonsense") {
		t.Errorf("the failure reads %v", err)
	}
}
