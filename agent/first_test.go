package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
)

// A process that starts only once the files of all its placements are there,
// as an etcd member does, must not be waited for before they are.
func TestFilesOfOneProcessArePlacedBeforeItsFirstProof(t *testing.T) {
	l := newLab(t)
	ids := []string{"p1", "p2"}
	servers := map[string]*server{}
	for _, id := range ids {
		servers[id] = &server{address: silent(t)} // nobody listens yet
	}
	const patience = 10 * time.Second
	for _, id := range ids {
		l.want(id, servers[id].proven, etcdLike, func(d *api.DesiredPlacement) {
			d.Target.Name = "member"
			d.Proof.Timeout = durationpb.New(patience)
		})
	}
	start := time.Now()
	l.run()
	waitFor(t, "the files of both placements", func() bool {
		for _, id := range ids {
			if _, err := os.Stat(filepath.Join(l.path(id), currentLink, keyFile)); errors.Is(err, os.ErrNotExist) {
				return false
			}
		}
		return true
	})
	for _, id := range ids {
		serveAt(t, servers[id].address, l.path(id))
	}
	for _, id := range ids {
		if report := l.steady(id, 1); report.GetLevel() != api.Level_LEVEL_PROVEN {
			t.Errorf("report: %v", report)
		}
	}
	if took := time.Since(start); took > patience/2 {
		t.Errorf("it took %s: one placement waited for the proof of the other", took)
	}
}

// serveAt serves what lies in the directory, until the test ends.
func serveAt(t *testing.T, address, directory string) {
	t.Helper()
	pair, err := loadPair(directory)
	check(t, err)
	listener, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{*pair}})
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		defer close(done)
		defer stop()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_ = conn.(*tls.Conn).HandshakeContext(ctx)
			_ = conn.Close()
		}
	}()
}
