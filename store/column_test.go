package store

import (
	"encoding/json"
	"maps"
	"testing"
)

// FuzzLabelMap: whatever stands in the column, a map is what JSON says it is.
func FuzzLabelMap(f *testing.F) {
	for _, text := range []string{
		"{}", "", "null", "[]", `{"a":"b"}`, `{"a":"b","c":"d"}`, `{"a":"","":"d"}`, `{"a":"b","a":"c"}`, `{"a":1}`, `{"a":1,"b":"c"}`,
		`{"a":"b","c":1}`, `{"a":"b","c"}`, `{"a":"b",}`, `{"a":"b"}x`, `{"a":"b"} `, `{ "a":"b"}`, `{"a" :"b"}`, `{"a":"b" ,"c":"d"}`,
		`{"a":"\"","b":"c"}`, `{"a":"b\\"}`, `{"a":"b\\","c":"d"}`, `{"a":"\u0041"}`, `{"a":{"b":"c"}}`, `{"a":["b","c"]}`, `{"a":"b":"c"}`,
		"{\"a\":\"\x01\"}", "{\"a\":\"\xff\"}", `{"a":"é日�"}`, `{"a":":","b":","}`, `{""}`, `{"":""}`, `{"","":""}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, want := map[string]string{}, map[string]string{}
		err, wantErr := labelMap{&got}.Scan(text), json.Unmarshal([]byte(text), &want)
		if (err == nil) != (wantErr == nil) || err == nil && !maps.Equal(got, want) {
			t.Fatalf("%q is %v (%v), want %v (%v)", text, got, err, want, wantErr)
		}
		if plain, ok := plainMap(labels(got)); err == nil && ok && !maps.Equal(plain, got) {
			t.Fatalf("%v is written as %s and read as %v", got, labels(got), plain)
		}
	})
}

// TestPlainMap: what agents have is read the short way.
func TestPlainMap(t *testing.T) {
	for _, m := range []map[string]string{{}, {"host": "db-1"}, {"os": "Debian 13", "role": "orders", "targets": "redis=redis,front=nginx"}} {
		if got, ok := plainMap(labels(m)); !ok || !maps.Equal(got, m) {
			t.Errorf("%v is read as %v, %t", m, got, ok)
		}
	}
}
