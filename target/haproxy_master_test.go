package target

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestMastersReloads(t *testing.T) {
	const before = "PATH=/bin\x00HAPROXY_MWORKER=1\x00"
	const twice = "HAPROXY_PROCESSES=|type=w;fd=3;pid=8;reloads=2;failedreloads=0;timestamp=1|type=m;fd=-1;pid=7;reloads=2;failedreloads=1;timestamp=1;version=(null)\x00"
	for name, c := range map[string]struct {
		environ string
		want    haproxyReloads
	}{
		"starting":        {before, haproxyReloads{}},
		"idle":            {before + "HAPROXY_MWORKER_WAIT_ONLY=1\x00" + twice, haproxyReloads{known: true, idle: true, count: 2, failed: 1}},
		"reading":         {before + twice, haproxyReloads{known: true, count: 2, failed: 1}},
		"another's":       {"HAPROXY_PROCESSES=|type=m;pid=70;reloads=2;failedreloads=1\x00", haproxyReloads{}},
		"another version": {"HAPROXY_PROCESSES=|type=m;pid=7;reloads=2\x00", haproxyReloads{count: 2}},
		"nonsense":        {"HAPROXY_PROCESSES=||;;==;type=m;pid=7;reloads=x;failedreloads=\x00\x00", haproxyReloads{}},
		"none":            {"", haproxyReloads{}},
	} {
		if got := parseReloads(c.environ, 7); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestCatches(t *testing.T) {
	if own := signalsOf(os.Getpid()); own.caught(syscall.SIGKILL) || !own.caught(syscall.SIGURG) {
		t.Error("this process can't catch SIGKILL, and its runtime catches SIGURG")
	}
	sleep := exec.Command("sleep", "600")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	if parent, err := parentOf(sleep.Process.Pid); err != nil || parent != os.Getpid() {
		t.Errorf("parent %d %v", parent, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	started := time.Now()
	if now := haproxySettles(ctx, sleep.Process.Pid); now.known || time.Since(started) > haproxySettling/2 {
		t.Errorf("waited for what is no master: %+v", now)
	}
}

func TestHAProxyWords(t *testing.T) {
	for text, want := range map[string]string{
		"/etc/a.pem": "/etc/a.pem", "/a b;c\\d": `/a\ b\;c\\d`, "/a\nset ssl cert": "/aset\\ ssl\\ cert",
	} {
		if got := haproxyWord(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := haproxyPayload([]byte("a\r\n\n \nb")); got != "a\nb\n" {
		t.Errorf("a payload ends at its first empty line: %q", got)
	}
}
