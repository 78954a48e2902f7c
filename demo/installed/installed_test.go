package installed_test

import (
	"context"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/demo/installed"
	"github.com/rotunda-pki/rotunda/demo/load"
	"github.com/rotunda-pki/rotunda/demo/papertest"
)

// TestServersAndTheirClients runs each of the servers with files as Rotunda
// leaves them and the demo's clients against them: all requests succeed. Then
// it takes them away, and the clients notice.
func TestServersAndTheirClients(t *testing.T) {
	found := installed.Find()
	if len(found) != 3 {
		t.Fatalf("Redis, PostgreSQL and nginx are not all installed (%d are): run `make deps`", len(found))
	}
	office, root := papertest.New(t), openDir(t)
	identity := filepath.Join(root, "identity")
	office.Deliver(t, identity)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	settings := load.Settings{Identity: identity}
	ended := make(chan error, len(found))
	for _, s := range found {
		s.Listen, s.Data, s.Files = freeAddress(t), filepath.Join(root, s.Kind), filepath.Join(root, s.Kind+"-files")
		office.Deliver(t, s.Files)
		own(t, s.Files, s.Account)
		ready := make(chan struct{})
		go func() { ended <- s.Run(ctx, func() error { close(ready); return nil }) }()
		select {
		case <-ready:
		case err := <-ended:
			t.Fatalf("%s: %v", s.Kind, err)
		}
		settings.Installed = append(settings.Installed, load.Installed{Kind: s.Kind, Address: s.Listen, Name: "localhost", Answers: installed.Greeting})
	}
	clients := load.StartInstalled(settings)
	defer clients.Stop()
	await(t, "requests", func() bool { return clients.Tally().Requests >= 300 })
	if tally := clients.Tally(); tally.Failed != 0 || tally.Reconnects != 0 {
		t.Fatalf("%+v: %s", tally, strings.Join(clients.Failures(), "\n"))
	}
	stop()
	for range found {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	await(t, "failures, now that all are gone", func() bool { return clients.Tally().Failed > 0 })
}

func openDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "demo-installed-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a server that ends may still write
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// own gives a placement's files to the account, as an intent's files.owner does.
func own(t *testing.T, dir, account string) {
	if account == "" {
		return
	}
	found, err := user.Lookup(account)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(found.Uid)
	gid, _ := strconv.Atoi(found.Gid)
	err = filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick, end := time.NewTicker(10*time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("no %s", what)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
