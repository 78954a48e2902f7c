package target

import (
	"bufio"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func readText(text string) (reply, error) {
	return readReply(bufio.NewReaderSize(strings.NewReader(text), maxPlainLine))
}

func TestReplies(t *testing.T) {
	for text, want := range map[string]reply{
		"+OK\r\n":                      {text: "OK"},
		"-NOPERM no\r\n":               {failed: true, text: "NOPERM no"},
		":42\r\n":                      {text: "42"},
		"$5\r\na\r\nbc\r\n":            {text: "a\r\nbc"},
		"$0\r\n\r\n":                   {},
		"$-1\r\n":                      {},
		"*-1\r\n":                      {},
		"*2\r\n$1\r\nk\r\n$1\r\nv\r\n": {items: []reply{{text: "k"}, {text: "v"}}},
		"*1\r\n*1\r\n:1\r\n":           {items: []reply{{items: []reply{{text: "1"}}}}},
	} {
		if got, err := readText(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
}

// TestForeignReplies: what is no reply, or a far too long one, is told from a
// connection that broke.
func TestForeignReplies(t *testing.T) {
	for text, want := range map[string]error{
		"HTTP/1.1 400\r\n":                         errNotRESP,
		"\x15\x03\x01\x00\x02\x02\x46":             errNotRESP,
		"$x\r\n":                                   errNotRESP,
		"$-2\r\n":                                  errNotRESP,
		"$1\r\nabc":                                errNotRESP,
		"*99999999999999999999\r\n":                errNotRESP,
		"$1048577\r\n":                             errReplyTooLong,
		"*4097\r\n":                                errReplyTooLong,
		strings.Repeat("*1\r\n", 5):                errReplyTooLong,
		"+" + strings.Repeat("x", maxPlainLine):    errReplyTooLong,
		"*64\r\n" + strings.Repeat("*4000\r\n", 2): errReplyTooLong,
		"":             io.EOF,
		"+OK":          io.EOF,
		"$5\r\nab":     io.ErrUnexpectedEOF,
		"*2\r\n:1\r\n": io.EOF,
	} {
		if _, err := readText(text); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", text, err, want)
		}
	}
}

// TestReplyHasABudget: many small parts cost no more than one large one may.
func TestReplyHasABudget(t *testing.T) {
	part := "$60000\r\n" + strings.Repeat("x", 60000) + "\r\n"
	if _, err := readText("*17\r\n" + strings.Repeat(part, 17)); err != nil {
		t.Error(err)
	}
	if _, err := readText("*18\r\n" + strings.Repeat(part, 18)); !errors.Is(err, errReplyTooLong) {
		t.Errorf("1.08 MB: %v", err)
	}
}

func FuzzReply(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "-ERR x\r\n", ":1\r\n", "$3\r\nabc\r\n", "*2\r\n$1\r\na\r\n*-1\r\n", "$-1\r\n", "HTTP/1.1 200 OK\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readText(text)
		if err != nil {
			return
		}
		size, items := weigh(got)
		if size > len(text) || size > maxReplyBytes || items > maxReplyItems {
			t.Errorf("%d bytes and %d items from %d bytes", size, items, len(text))
		}
		got.pairs()
	})
}

func weigh(r reply) (size, items int) {
	size, items = len(r.text), len(r.items)
	for _, item := range r.items {
		s, n := weigh(item)
		size, items = size+s, items+n
	}
	return size, items
}

// TestCommandsHoldAnything: a path or password with blanks, quotes and line
// ends stays one word.
func TestCommandsHoldAnything(t *testing.T) {
	words := []string{"AUTH", "a b", "p\r\n*1\r\n$8\r\nFLUSHALL\r\n", "", "ü"}
	got, err := readText(encodeCommand(words))
	if err != nil || len(got.items) != len(words) {
		t.Fatalf("%+v %v", got, err)
	}
	for i, word := range words {
		if got.items[i].text != word {
			t.Errorf("word %d is %q", i, got.items[i].text)
		}
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		version string
		below70 bool
	}{
		{"7.0.15", false}, {"6.2.14", true}, {"7.2", false}, {"10.0.1", false}, {"255.255.255", false},
		{"", true}, {"7", true}, {"seven.zero", true}, {"2.6.12-1+deb12u4", true}, {"8.1-rc1", false},
	} {
		if got := below(c.version, 7, 0); got != c.below70 {
			t.Errorf("%q is below 7.0: %t", c.version, got)
		}
	}
}

func TestRedisHealth(t *testing.T) {
	master := map[string]string{"loading": "0", "role": "master", "connected_slaves": "0", "cluster_enabled": "0"}
	replica := map[string]string{"loading": "0", "role": "slave", "master_link_status": "up", "master_sync_in_progress": "0"}
	for _, c := range []struct {
		of          map[string]string
		name, value string
		want        string
	}{
		{master, "", "", ""},
		{master, "loading", "1", "loading"},
		{master, "async_loading", "1", "loading"},
		{master, "slave0", "ip=127.0.0.1,port=1,state=online,offset=1,lag=0", ""},
		{master, "slave0", "ip=127.0.0.1,port=1,state=wait_bgsave,offset=0,lag=0", "not in sync"},
		{master, "cluster_enabled", "1", "state is"},
		{master, "role", "sentinel", `"sentinel"`},
		{master, "role", "", `""`},
		{replica, "", "", ""},
		{replica, "master_link_status", "down", "is down"},
		{replica, "master_sync_in_progress", "1", "middle of a sync"},
	} {
		info := map[string]string{c.name: c.value}
		for name, value := range c.of {
			if name != c.name {
				info[name] = value
			}
		}
		err := judgeRedis(info)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", info, err, c.want)
		}
	}
}
