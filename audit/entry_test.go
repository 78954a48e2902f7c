package audit

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/internal/rfc3339"
)

func sample() Entry {
	uid := 0
	return Entry{
		ID:   "01890a5d-ac96-774b-bcce-b302099a8057",
		Time: time.Date(2026, 11, 20, 23, 31, 14, 123456789, time.FixedZone("", 3600)),
		Actor: Actor{
			Kind: "operator", ID: "alice", Serial: "0189", Address: "[::1]:4711", UID: &uid,
		},
		Verb: "token.create", Object: "Token/7", Outcome: Done,
		Detail: map[string]any{"b": 1, "a": []any{"<&>", nil, true, 0.5}, "é": map[string]any{}},
	}
}

func TestEncodeExactBytes(t *testing.T) {
	got, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"actor":{"address":"[::1]:4711","id":"alice","kind":"operator","serial":"0189","uid":0},` +
		`"detail":{"a":["<&>",null,true,0.5],"b":1,"é":{}},` +
		`"id":"01890a5d-ac96-774b-bcce-b302099a8057","object":"Token/7","outcome":"done",` +
		`"time":"2026-11-20T22:31:14.123456Z","verb":"token.create"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEncodeRefuses(t *testing.T) {
	cases := map[string]func(*Entry){
		"no id":              func(e *Entry) { e.ID = "" },
		"random UUID":        func(e *Entry) { e.ID = "7c1e4e6e-0d2f-4b6c-9c3e-2f8f3f6f1a11" },
		"upper case id":      func(e *Entry) { e.ID = strings.ToUpper(e.ID) },
		"no time":            func(e *Entry) { e.Time = time.Time{} },
		"no verb":            func(e *Entry) { e.Verb = "" },
		"no outcome":         func(e *Entry) { e.Outcome = "" },
		"odd outcome":        func(e *Entry) { e.Outcome = "maybe" },
		"refused, no reason": func(e *Entry) { e.Outcome = Refused },
		"no actor":           func(e *Entry) { e.Actor = Actor{} },
		"odd actor":          func(e *Entry) { e.Actor.Kind = "root" },
		"huge integer":       func(e *Entry) { e.Detail["n"] = int64(math.MaxInt64) },
		"huge negative":      func(e *Entry) { e.Detail["n"] = int64(-1) << 60 },
		"huge deep inside":   func(e *Entry) { e.Detail["n"] = []any{map[string]any{"x": uint64(1 << 54)}} },
		"huge number":        func(e *Entry) { e.Detail["n"] = json.Number("9007199254740993") },
		"huge in a struct":   func(e *Entry) { e.Detail["n"] = struct{ N uint64 }{1 << 60} },
		"huger in a struct":  func(e *Entry) { e.Detail["n"] = struct{ N uint64 }{1 << 63} },
		"name is no UTF-8":   func(e *Entry) { e.Detail["\xff"] = 1 },
		"not a number":       func(e *Entry) { e.Detail["n"] = math.NaN() },
		"not JSON":           func(e *Entry) { e.Detail["n"] = func() {} },
		"too long":           func(e *Entry) { e.Detail["n"] = strings.Repeat("x", MaxEntry) },
	}
	for name, spoil := range cases {
		e := sample()
		spoil(&e)
		if got, err := e.Encode(); err == nil {
			t.Errorf("%s: encoded as %s", name, got)
		}
	}
	e := sample()
	e.Detail["n"] = maxInteger
	if _, err := e.Encode(); err != nil {
		t.Errorf("greatest exact integer: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	cases := map[string]string{
		"empty":            "",
		"not an object":    "[]",
		"space":            strings.Replace(text, `,"id"`, `, "id"`, 1),
		"trailing newline": text + "\n",
		"two entries":      text + text,
		"unknown field":    strings.Replace(text, `,"id"`, `,"extra":1,"id"`, 1),
		"unknown in actor": strings.Replace(text, `"kind"`, `"extra":1,"kind"`, 1),
		"repeated field":   strings.Replace(text, `"verb"`, `"verb":"token.create","verb"`, 1),
		"other order":      strings.Replace(text, `"b":1,"é":{}`, `"é":{},"b":1`, 1),
		"other number":     strings.Replace(text, `"b":1`, `"b":1.0`, 1),
		"needless escape":  strings.Replace(text, `<&>`, `\u003c&>`, 1),
		"other case":       strings.Replace(text, `"verb"`, `"Verb"`, 1),
		"nanoseconds":      strings.Replace(text, `123456Z`, `123456000Z`, 1),
		"offset":           strings.Replace(text, `123456Z`, `123456+00:00`, 1),
		"empty detail":     `{"actor":{"kind":"agent"},"detail":{},"id":"01890a5d-ac96-774b-bcce-b302099a8057","outcome":"done","time":"2026-11-20T22:31:14.123456Z","verb":"x"}`,
		"null detail":      `{"actor":{"kind":"agent"},"detail":null,"id":"01890a5d-ac96-774b-bcce-b302099a8057","outcome":"done","time":"2026-11-20T22:31:14.123456Z","verb":"x"}`,
		"too long":         strings.Replace(text, `alice`, strings.Repeat("x", MaxEntry), 1),
		"bad UTF-8":        strings.Replace(text, `alice`, "\xff", 1),
	}
	for name, content := range cases {
		if content == text {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if e, err := Decode([]byte(content)); err == nil {
			t.Errorf("%s: decoded as %+v", name, e)
		}
	}
}

func TestEncodeMendsBrokenText(t *testing.T) {
	e := sample()
	e.Outcome, e.Reason = Refused, "token \xff\xfe is unknown"
	content, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(content)
	if err != nil {
		t.Fatal(err)
	}
	if got.Reason != "token \ufffd\ufffd is unknown" {
		t.Errorf("reason %q", got.Reason)
	}
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := sample()
		e.Time = time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "time")).UTC()
		e.Actor.ID = rapid.String().Draw(t, "actor")
		e.Verb = rapid.StringN(1, 20, -1).Draw(t, "verb")
		e.Reason = rapid.String().Draw(t, "reason")
		e.Detail = drawObject(t, 3)
		content, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(content)
		if err != nil {
			t.Fatalf("decode %s: %v", content, err)
		}
		if len(e.Detail) == 0 {
			e.Detail = nil
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("got  %#v\nwant %#v", got, e)
		}
		canonical, err := jcs.Transform(content)
		if err != nil || !bytes.Equal(canonical, content) {
			t.Fatalf("not canonical: %s, %v", content, err)
		}
	})
}

func drawObject(t *rapid.T, depth int) map[string]any {
	object := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "fields") {
		object[rapid.String().Draw(t, "key")] = drawValue(t, depth)
	}
	return object
}

func drawValue(t *rapid.T, depth int) any {
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		return rapid.String().Draw(t, "text")
	case 1:
		return float64(rapid.Int64Range(-maxInteger, maxInteger).Draw(t, "integer"))
	case 2:
		return rapid.Bool().Draw(t, "bool")
	case 3:
		if depth > 0 {
			return drawObject(t, depth-1)
		}
	case 4:
		if depth > 0 {
			return []any{drawValue(t, depth-1), drawValue(t, depth-1)}
		}
	}
	return nil
}

// Whatever the values are, the bytes are those of the reference
// implementation.
func TestEncodeAgreesWithReference(t *testing.T) {
	agree := func(t interface {
		Helper()
		Fatalf(string, ...any)
	}, detail map[string]any) {
		t.Helper()
		e := sample()
		e.Detail = detail
		got, err := e.Encode()
		if err != nil {
			t.Fatalf("%v: %v", detail, err)
		}
		plain, err := json.Marshal(map[string]any{
			"id": e.ID, "time": e.Time.UTC().Format(rfc3339.Micro), "verb": e.Verb, "object": e.Object, "outcome": e.Outcome, "detail": detail,
			"actor": map[string]any{"kind": e.Actor.Kind, "id": e.Actor.ID, "serial": e.Actor.Serial, "address": e.Actor.Address, "uid": 0},
		})
		if err != nil {
			t.Fatalf("%v", err)
		}
		want, err := jcs.Transform(plain)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got  %s\nwant %s, %v", got, want, err)
		}
	}
	agree(t, map[string]any{
		"controls": "\x00\x01\b\t\n\v\f\r\x1f\x7f\u2028\u2029/\\\"", "\U0001f600": 1, "\ufb33": 2, "\u20ac": 3, "\r": 4, "ö": 5, "": 6, "a": 7, "aa": 8,
		"small": 1e-7, "big": 1e21, "negative zero": math.Copysign(0, -1), "third": 1.0 / 3, "strings": []string{"b", "a"}, "none": []string{},
		"map": map[string]string{"y": "1", "x": "2"}, "int32": int32(-5), "uint32": uint32(7), "uint64": uint64(8), "float32": float32(0.5),
		"struct": struct {
			B int `json:"b"`
			A any `json:"a"`
		}{1, []int{3, 2}},
		"number": json.Number("1e3"), "exact": json.Number("42"),
	})
	// Texts are looked at several bytes at once.
	for r := range rune(utf8.RuneSelf + 128) {
		texts := make([]any, 19)
		for i := range texts {
			texts[i] = strings.Repeat("~", i) + string(r) + strings.Repeat("#", len(texts)-i)
		}
		agree(t, map[string]any{"texts": texts})
	}
	rapid.Check(t, func(t *rapid.T) {
		detail := drawObject(t, 3)
		detail["float"] = rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }).Draw(t, "float")
		agree(t, detail)
	})
}

func FuzzDecode(f *testing.F) {
	good, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"actor":{"kind":"agent"},"id":"01890a5d-ac96-774b-bcce-b302099a8057","outcome":"done","time":"2026-11-20T22:31:14.123456Z","verb":"x"}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		e, err := Decode(content)
		if err != nil {
			return
		}
		if !json.Valid(content) {
			t.Fatal("took what is no JSON")
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, content) {
			t.Fatalf("encodes again as %s, %v", again, err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	e := sample()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}
