package reconcile_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	logspb "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/audit"
)

// taken is what a receiver has of the log, by index, and how often.
type taken struct {
	mu      sync.Mutex
	entries map[uint64]string
	times   map[uint64]int
}

func (k *taken) add(t *testing.T, index uint64, content, leaf string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.entries == nil {
		k.entries, k.times = map[uint64]string{}, map[uint64]int{}
	}
	hash := audit.LeafHash([]byte(content))
	if leaf != hexOf(hash[:]) {
		t.Errorf("entry %d: leaf %s of %s", index, leaf, content)
	}
	if before, known := k.entries[index]; known && before != content {
		t.Errorf("entry %d is %s, then %s", index, before, content)
	}
	k.entries[index] = content
	k.times[index]++
}

// gap is the first index that is missing below size; size: none is.
func (k *taken) gap(size uint64) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	for index := range size {
		if _, there := k.entries[index]; !there {
			return index
		}
	}
	return size
}

func (k *taken) often(index uint64) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.times[index]
}

// collector is a receiver of OTLP over HTTP that decodes what it is sent.
type collector struct {
	*httptest.Server
	taken
	t      *testing.T
	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request, entries int) bool // nil, or true: it takes them
	after  func()                                                         // runs when some were taken, before the answer
	header http.Header
}

func newCollector(t *testing.T) *collector {
	c := &collector{t: t}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) set(answer func(http.ResponseWriter, *http.Request, int) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

func (c *collector) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // who sent it has hung up
	}
	request := &collectorpb.ExportLogsServiceRequest{}
	if err := proto.Unmarshal(body, request); err != nil || r.URL.Path != "/v1/logs" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("%s %v: %v", r.URL, r.Header, err)
	}
	records := request.ResourceLogs[0].ScopeLogs[0].LogRecords
	c.mu.Lock()
	answer, after := c.answer, c.after
	c.header = r.Header
	c.mu.Unlock()
	if answer != nil && !answer(w, r, len(records)) {
		return
	}
	c.take(c.t, records)
	if after != nil {
		after()
	}
	respond(w, &collectorpb.ExportLogsServiceResponse{})
}

// take decodes records of OTLP.
func (k *taken) take(t *testing.T, records []*logspb.LogRecord) {
	for _, one := range records {
		attributes := map[string]string{}
		index := uint64(0)
		for _, a := range one.Attributes {
			attributes[a.Key] = a.Value.GetStringValue()
			if a.Key == "rotunda.audit.index" {
				index = uint64(a.Value.GetIntValue())
			}
		}
		decoded, err := audit.Decode([]byte(one.Body.GetStringValue()))
		if err != nil || decoded.ID != attributes["rotunda.audit.id"] || one.TimeUnixNano != uint64(decoded.Time.UnixNano()) {
			t.Errorf("record %v: %v", one, err)
		}
		k.add(t, index, one.Body.GetStringValue(), attributes["rotunda.audit.leaf_hash"])
	}
}

func respond(w http.ResponseWriter, response *collectorpb.ExportLogsServiceResponse) {
	content, err := proto.Marshal(response)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(content)
}

// logHost is a receiver of syslog with octet counting. It takes what it parses.
type logHost struct {
	taken
	t        *testing.T
	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	deaf     bool // accepts and reads nothing
	group    sync.WaitGroup
}

func newLogHost(t *testing.T, address string, deaf bool) *logHost {
	h := &logHost{t: t, deaf: deaf}
	var err error
	if h.listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	h.group.Go(h.accept)
	t.Cleanup(h.die)
	return h
}

func (h *logHost) address() string { return h.listener.Addr().String() }

func (h *logHost) accept() {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns = append(h.conns, conn)
		h.mu.Unlock()
		if !h.deaf {
			h.group.Go(func() { h.read(conn) })
		}
	}
}

func (h *logHost) read(conn net.Conn) {
	octetcounting.NewParser(syslog.WithListener(func(result *syslog.Result) {
		if result.Error != nil {
			return // the connection ended
		}
		m := result.Message.(*rfc5424.SyslogMessage)
		fields := (*m.StructuredData)["rotunda@32473"]
		h.add(h.t, numberOf(h.t, fields["index"]), strings.TrimSuffix(*m.Message, "\n"), fields["leaf"])
	}), syslog.WithMaxMessageLength(1<<20)).Parse(bufio.NewReader(conn))
}

// die ends the process, as far as its peers can tell: what lies in the kernel's
// buffers and was not read is gone.
func (h *logHost) die() {
	h.listener.Close()
	h.mu.Lock()
	for _, conn := range h.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	h.mu.Unlock()
	h.group.Wait()
}
