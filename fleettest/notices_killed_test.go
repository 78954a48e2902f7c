package fleettest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
)

// A server is killed while an owner's side takes a notice: the next one posts it
// again, under the same id and byte for byte, and marks it once it is taken.
func TestKilledServerTellsOwners(t *testing.T) {
	posts := make(chan string, 10)
	var mu sync.Mutex
	var kill func()
	owner := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		if kill != nil {
			kill()
		}
		mu.Unlock()
		posts <- string(body)
	}))
	defer owner.Close()
	p := NewPlane(t)
	p.Apply(strings.Replace(strings.ReplaceAll(documents, "TREE", t.TempDir()), "owner: {", `owner: {notify: "`+owner.URL+`", `, 1))
	p.newAsking()
	_, err := p.StartRollout(t.Context(), Operator, &api.StartRolloutRequest{Name: "drill", All: true, Spec: &api.RolloutSpec{Told: true}})
	p.must(err)
	p.Stop()
	p.Config.Notices.SecretFile = filepath.Join(p.Dir, "notices.secret")
	p.must(os.WriteFile(p.Config.Notices.SecretFile, []byte("0123456789abcdef"), 0o600))

	first := p.startProcess()
	mu.Lock()
	kill = func() { first.Process.Kill() } // which can't fail before Wait
	mu.Unlock()
	told := p.awaitPost(posts)
	if err := first.Wait(); err == nil || first.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the server ended by itself: %v", err)
	}
	mu.Lock()
	kill = nil
	mu.Unlock()
	p.Start()
	if again := p.awaitPost(posts); again != told {
		t.Errorf("told %s, then %s", told, again)
	}
	p.Await("it is marked", func([]*api.PlacementStatus) bool {
		list, err := p.ListNotices(t.Context(), Operator, &api.ListNoticesRequest{Sent: true})
		p.must(err)
		return list.Notices[len(list.Notices)-1].State == "sent" && strings.Contains(told, list.Notices[len(list.Notices)-1].Id)
	})
}

func (p *Plane) awaitPost(posts <-chan string) string {
	p.t.Helper()
	select {
	case body := <-posts:
		return body
	case <-time.After(Patience):
		p.t.Fatalf("nothing is posted within %s", Patience)
		return ""
	}
}
