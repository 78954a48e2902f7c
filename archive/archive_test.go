package archive

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

func records(n int) []Record {
	all := make([]Record, n)
	for i := range all {
		all[i] = Record{
			Serial: fmt.Sprintf("%032x", n-i), Kind: "leaf", Names: "a.example", Fingerprint: fmt.Sprintf("%064x", i),
			PolicyInput: []byte(`{"z":1, "a":2}`), NotAfter: time.Unix(int64(i), 123000).UTC(), DER: []byte{byte(i), 0, 255},
		}
	}
	return all
}

func TestPackedRecordsComeBack(t *testing.T) {
	in := records(100)
	manifest, packed, err := Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	again, packedAgain, err := Pack(slices.Clone(in))
	if err != nil || again != manifest || !bytes.Equal(packed, packedAgain) {
		t.Errorf("another file of the same records: %v, %v", again, err)
	}
	known, out, err := Recognise(manifest.File, packed)
	if err != nil || known != manifest || len(out) != len(in) {
		t.Fatalf("recognised as %+v, %d records, %v; was %+v", known, len(out), err, manifest)
	}
	for i := range out {
		if !out[i].Same(in[len(in)-1-i]) {
			t.Fatalf("record %d came back as %+v", i, out[i])
		}
	}
	var one []Record
	err = Unpack(packed, []string{in[7].Fingerprint, in[7].Serial}, func(r Record) error { one = append(one, r); return nil })
	if err != nil || len(one) != 1 || one[0].Serial != in[7].Serial {
		t.Errorf("found %v, %v", one, err)
	}
}

// A file is read only with the hash that its manifest has, and what stands under
// its name with another content is none.
func TestDirBelievesTheManifest(t *testing.T) {
	dir := Dir(filepath.Join(t.TempDir(), "archive"))
	manifest, packed, err := Pack(records(3))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Read(manifest); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("before it was written: %v", err)
	}
	for range 2 {
		if err := dir.Put(manifest, packed); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(string(dir), manifest.File)
	for i := range packed {
		harmed := slices.Clone(packed)
		harmed[i] ^= 1
		if err := os.WriteFile(path, harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := dir.Read(manifest); fault.CodeOf(err) != fault.Conflict {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		if _, _, err := dir.Stray(manifest.File); err == nil {
			t.Fatalf("byte %d flipped: recognised", i)
		}
	}
	if err := dir.Put(manifest, packed); err != nil {
		t.Fatal(err)
	}
	if content, err := dir.Read(manifest); err != nil || !bytes.Equal(content, packed) {
		t.Errorf("written again: %v", err)
	}
	if names, err := dir.Names(); err != nil || !slices.Equal(names, []string{manifest.File}) {
		t.Errorf("names: %q, %v", names, err)
	}
	manifest.File = "../" + manifest.File
	if _, err := dir.Read(manifest); err == nil {
		t.Error("a name leads out of the directory")
	}
}

func FuzzRecognise(f *testing.F) {
	manifest, packed, err := Pack(records(2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(manifest.File, packed)
	f.Add("x", []byte("x"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		m, records, err := Recognise(name, content)
		if err == nil && (m.File != name || m.Count != len(records) || m.Count == 0) {
			t.Errorf("%q: %+v with %d records", name, m, len(records))
		}
	})
}
