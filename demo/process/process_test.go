package process_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/demo/process"
)

// role makes this test binary play a child: what it does is in the variable.
const role, logs = "PROCESS_TEST_ROLE", "PROCESS_TEST_LOGS"

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "ready":
		must(process.Ready())
		select {}
	case "bound":
		ctx, release := process.WithLifeline(context.Background())
		defer release()
		sign := filepath.Join(os.Getenv(logs), "alive")
		must(os.WriteFile(sign, nil, 0o600))
		must(process.Ready())
		<-ctx.Done()
		must(os.Remove(sign))
		os.Exit(7)
	case "parent":
		family, err := process.NewFamily(os.Getenv(logs), false)
		must(err)
		// Through a shell that stays: what that starts is not bound to this
		// process by the kernel.
		_, err = family.StartReady(context.Background(), "grandchild", []string{role + "=bound"}, "sh", "-c", `"$0"; exit`, os.Args[0])
		must(err)
		must(process.Ready())
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

func newFamily(t *testing.T, orphans bool) *process.Family {
	t.Helper()
	family, err := process.NewFamily(t.TempDir(), orphans)
	if err != nil {
		t.Fatal(err)
	}
	return family
}

func TestStartsWhatSaysThatItIsReady(t *testing.T) {
	family := newFamily(t, false)
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
	family := newFamily(t, false)
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
	family := newFamily(t, false)
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

// TestKilledParentLeavesNobodyBehind kills a process that has no chance to end
// its family, one of whom it did not start itself.
func TestKilledParentLeavesNobodyBehind(t *testing.T) {
	family, inner := newFamily(t, false), t.TempDir()
	defer family.End()
	parent, err := family.StartReady(context.Background(), "parent", []string{role + "=parent", logs + "=" + inner}, self(t))
	if err != nil {
		t.Fatal(err)
	}
	sign := filepath.Join(inner, "alive")
	time.Sleep(100 * time.Millisecond) // as long as its parent lives, nothing ends it
	if _, err := os.Stat(sign); err != nil {
		t.Fatalf("the grandchild is not alive: %v", err)
	}
	if err := syscall.Kill(parent.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, err := os.Stat(sign); err == nil; _, err = os.Stat(sign) {
		if time.Now().After(deadline) {
			t.Fatal("the parent was killed, and the grandchild lives on")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
