package fleettest

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/forward"
)

// A server is killed while a collector takes entries of the audit log: the next
// one sends those again, and the collector has every entry of the log.
func TestKilledServerForwards(t *testing.T) {
	var mu sync.Mutex
	var kill func()
	entries, repeated := map[int64]string{}, false
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		request := &collector.ExportLogsServiceRequest{}
		if err != nil || proto.Unmarshal(body, request) != nil {
			t.Errorf("request: %v", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, record := range request.ResourceLogs[0].ScopeLogs[0].LogRecords {
			index, content := record.Attributes[0].Value.GetIntValue(), record.Body.GetStringValue()
			before, known := entries[index]
			repeated = repeated || known
			hash := audit.LeafHash([]byte(content))
			if known && before != content || record.Attributes[2].Value.GetStringValue() != hex.EncodeToString(hash[:]) {
				t.Errorf("entry %d was %s, is %s", index, before, content)
			}
			entries[index] = content
		}
		if kill != nil {
			kill()
			kill = nil
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer sink.Close()
	p := NewPlane(t)
	for range 20 {
		_, err := p.CreateToken(t.Context(), Operator, &api.CreateTokenRequest{})
		p.must(err)
	}
	p.Stop()
	p.Config.Forward = []forward.Config{{Name: "siem", Kind: forward.KindOTLP, Address: sink.URL + "/v1/logs"}}
	mu.Lock() // nothing is answered before the process is known
	first := p.startProcess()
	kill = func() { first.Process.Kill() } // which can't fail before Wait
	mu.Unlock()
	if err := first.Wait(); err == nil || first.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the server ended by itself: %v", err)
	}
	p.Start()
	p.Await("the collector has the whole log", func([]*api.PlacementStatus) bool {
		list, err := p.ListAuditSinks(t.Context(), Operator, &api.ListAuditSinksRequest{})
		p.must(err)
		return len(list.Sinks) == 1 && list.Sinks[0].State == "current" && list.Size > 20
	})
	list, err := p.ListAuditEntries(t.Context(), Operator, &api.ListAuditEntriesRequest{})
	p.must(err)
	mu.Lock()
	defer mu.Unlock()
	for _, entry := range list.Entries {
		if entries[int64(entry.Index)] != string(entry.Content) {
			t.Errorf("entry %d came as %q", entry.Index, entries[int64(entry.Index)])
		}
	}
	if !repeated {
		t.Error("nothing came twice: the server was not killed between the two")
	}
}
