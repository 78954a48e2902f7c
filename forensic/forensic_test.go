package forensic

import (
	"archive/tar"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/pki"
)

var at = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// signed makes a certificate; a nil parent signs itself.
func signed(t testing.TB, serial int64, parent *x509.Certificate, by crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 120), big.NewInt(serial)), Subject: pkix.Name{CommonName: fmt.Sprint("number ", serial)},
		NotBefore: at, NotAfter: at.Add(time.Hour), BasicConstraintsValid: true, IsCA: parent == nil, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if parent == nil {
		template.KeyUsage |= x509.KeyUsageCertSign
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func recordOf(t testing.TB, role string, certificate *x509.Certificate) Certificate {
	t.Helper()
	serial, err := pki.SerialOf(certificate)
	if err != nil {
		t.Fatal(err)
	}
	return Certificate{Role: role, Serial: serial.String(), Kind: "leaf", Agent: "agent-1", IssuedAt: at, NotAfter: at.Add(time.Hour), DER: certificate.Raw}
}

// example is a bundle of one leaf, its observer, and four of six entries.
func example(t testing.TB) (*Bundle, note.Verifier) {
	t.Helper()
	secret, public, err := audit.NewLogKey("prod.example/audit")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	root, rootKey := signed(t, 1, nil, nil)
	leaf, _ := signed(t, 2, root, rootKey)
	agent, agentKey := signed(t, 3, root, rootKey)
	b := &Bundle{ID: "0199c2f4", Made: at, By: "a test", LogKey: public, Subject: json.RawMessage(`{"compromise":{}}`)}
	b.Certificates = []Certificate{recordOf(t, Authority, root), recordOf(t, Affected, leaf), recordOf(t, Observer, agent)}
	b.Hosts = []Host{{Agent: "agent-1", Labels: map[string]string{"rack": "7"}, State: "active", EnrolledAt: at, SeenAt: at}}
	statement := []byte(`{"outcome":"served"}`)
	digest := sha256.Sum256(statement)
	signature, err := agentKey.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	b.Evidence = []Evidence{{Placement: "p", Observer: "agent-1", Digest: hex.EncodeToString(digest[:]), Verdict: "served", At: at, Statement: statement, Signature: signature}}
	tree := audit.NewTree()
	for i := range 6 {
		entry := audit.Entry{
			ID: fmt.Sprintf("0199c2f4-6a51-7c1e-8000-%012d", i), Time: at.Add(time.Duration(i) * time.Second), Verb: "certificate.issue",
			Actor: audit.Actor{Kind: "operator", ID: "alice", Serial: "01"}, Object: "Service/orders", Outcome: audit.Done,
			Detail: map[string]any{"serial": b.Certificates[1].Serial},
		}
		content, err := entry.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Append(audit.LeafHash(content)); err != nil {
			t.Fatal(err)
		}
		b.Entries = append(b.Entries, audit.Exported{Index: uint64(i), Leaf: audit.LeafHash(content), Content: content})
	}
	prover := audit.NewProver(tree)
	for i := range b.Entries {
		b.Entries[i].Proof = prover.Prove(uint64(i))
	}
	b.Entries = append(b.Entries[1:3:3], b.Entries[4:]...)
	if b.Checkpoint, err = (audit.Checkpoint{Origin: "prod.example/audit", Size: tree.Size(), Root: tree.Root()}).Sign(signer); err != nil {
		t.Fatal(err)
	}
	return b, verifier
}

func written(t testing.TB, b *Bundle) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := b.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBundleIsWhole(t *testing.T) {
	b, log := example(t)
	report, err := Check(bytes.NewReader(written(t, b)), log)
	if err != nil {
		t.Fatal(err)
	}
	if report.Entries != 4 || report.TreeSize != 6 || report.Certificates != 3 || report.Affected != 1 || report.Evidence != 1 || len(report.Unrecorded) != 0 {
		t.Errorf("checked: %+v", report)
	}
	members := apart(t, written(t, b))
	if text := string(members[timelineName]); strings.Count(text, "\n") != 4 || !strings.Contains(text, "2030-01-01T00:00:01.000Z  #1  operator/alice") {
		t.Errorf("timeline:\n%s", text)
	}
	var access Access
	if err := json.Unmarshal(members[accessName], &access); err != nil || len(access.Actors) != 1 || access.Actors[0].Entries != 4 || access.Hosts[0].Labels["rack"] != "7" {
		t.Errorf("access: %+v %v", access, err)
	}
}

// A certificate that no entry tells of is named.
func TestUnrecordedCertificate(t *testing.T) {
	b, log := example(t)
	b.Entries = nil
	report, err := Check(bytes.NewReader(written(t, b)), log)
	if err != nil || len(report.Unrecorded) != 1 || report.Unrecorded[0] != b.Certificates[1].Serial {
		t.Errorf("%+v %v", report, err)
	}
}

func apart(t testing.TB, bundle []byte) map[string][]byte {
	t.Helper()
	in, err := zstd.NewReader(bytes.NewReader(bundle))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	members, archive := map[string][]byte{}, tar.NewReader(in)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		if members[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

// Who changes what is in a bundle, and makes the manifest anew as whoever forges one
// would, is found out by what the log and the observers signed.
func TestForgedBundles(t *testing.T) {
	_, other := example(t)
	for name, forge := range map[string]func(*Bundle){
		"another entry": func(b *Bundle) {
			b.Entries[1].Content = bytes.Replace(b.Entries[1].Content, []byte("alice"), []byte("bobby"), 1)
		},
		"with its leaf hash": func(b *Bundle) {
			e := &b.Entries[1]
			e.Content = bytes.Replace(e.Content, []byte("alice"), []byte("bobby"), 1)
			e.Leaf = audit.LeafHash(e.Content)
		},
		"an entry at another index":   func(b *Bundle) { b.Entries[1].Index = 3 },
		"the proof of another":        func(b *Bundle) { b.Entries[1].Proof = b.Entries[0].Proof },
		"another checkpoint":          func(b *Bundle) { c, _ := example(t); b.Checkpoint = c.Checkpoint },
		"no checkpoint":               func(b *Bundle) { b.Checkpoint = nil },
		"another certificate":         func(b *Bundle) { b.Certificates[1].DER = b.Certificates[2].DER },
		"a certificate of a stranger": func(b *Bundle) { own, _ := signed(t, 2, nil, nil); b.Certificates[1].DER = own.Raw },
		"no authority":                func(b *Bundle) { b.Certificates = b.Certificates[1:] },
		"another statement":           func(b *Bundle) { b.Evidence[0].Statement = []byte(`{"outcome":"refused"}`) },
		"with its digest": func(b *Bundle) {
			e := &b.Evidence[0]
			e.Statement = []byte(`{"outcome":"refused"}`)
			sum := sha256.Sum256(e.Statement)
			e.Digest = hex.EncodeToString(sum[:])
		},
		"another observer": func(b *Bundle) { b.Evidence[0].Observer = "agent-2" },
	} {
		b, log := example(t)
		forge(b)
		var out bytes.Buffer
		if err := b.Write(&out); err != nil {
			continue // not even written
		}
		if report, err := Check(&out, log); err == nil {
			t.Errorf("%s: taken for whole: %+v", name, report)
		}
	}
	b, _ := example(t)
	if _, err := Check(bytes.NewReader(written(t, b)), other); err == nil {
		t.Error("taken for whole by the key of another log")
	}
}

// What was damaged on the way is noticed, wherever it was.
func TestDamagedBundles(t *testing.T) {
	b, log := example(t)
	whole := written(t, b)
	for cut := range len(whole) {
		if _, err := Check(bytes.NewReader(whole[:cut]), log); err == nil {
			t.Fatalf("taken for whole when cut at %d of %d", cut, len(whole))
		}
	}
	members := apart(t, whole)
	for name := range members {
		for what, change := range map[string]func(map[string][]byte){
			"changed": func(m map[string][]byte) { m[name] = append(bytes.Clone(m[name]), '\n') },
			"flipped": func(m map[string][]byte) { m[name] = bytes.Clone(m[name]); m[name][len(m[name])/2] ^= 1 },
			"missing": func(m map[string][]byte) { delete(m, name) },
			"beside":  func(m map[string][]byte) { m["x-"+name] = m[name] },
		} {
			if name == manifestName && what == "changed" {
				continue // white space after its JSON says nothing else
			}
			changed := apart(t, whole)
			change(changed)
			if _, err := Check(bytes.NewReader(together(t, changed)), log); err == nil {
				t.Errorf("taken for whole with %s %s", name, what)
			}
		}
	}
}

func together(t testing.TB, members map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	compressed, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(compressed)
	for name, content := range members {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), compressed.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A file that claims to be huge is refused before it is read.
func TestHugeBundle(t *testing.T) {
	_, log := example(t)
	var out bytes.Buffer
	compressed, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(compressed)
	if err := archive.WriteHeader(&tar.Header{Name: manifestName, Mode: 0o600, Size: mostBytes + 1}); err != nil {
		t.Fatal(err)
	}
	if err := compressed.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(&out, log); err == nil || !strings.Contains(err.Error(), "larger than any") {
		t.Errorf("got %v", err)
	}
}

func TestTokens(t *testing.T) {
	var got []string
	Tokens([]byte(`{"object":"Service/orders","serial":"01ab","x":"a, b-c"}`), func(token string) { got = append(got, token) })
	if text := strings.Join(got, " "); text != "object Service/orders orders serial 01ab x a b-c" {
		t.Errorf("tokens: %s", text)
	}
}

// FuzzMembers hands the parsers what a forged bundle could hold.
func FuzzMembers(f *testing.F) {
	b, log := example(f)
	members := apart(f, written(f, b))
	f.Add(members[entriesName], members[recordsName], members[evidenceName])
	f.Add([]byte("{}\n"), []byte("{}"), []byte("null"))
	f.Fuzz(func(t *testing.T, entries, records, evidence []byte) {
		var report Report
		mentioned, err := checkEntries(entries, log, &report)
		if err == nil && report.TreeSize != 6 {
			t.Error("a checkpoint that nobody signed is taken")
		}
		forged := map[string][]byte{recordsName: records}
		for name, content := range members {
			if strings.HasPrefix(name, certificateIn) {
				forged[name] = content
			}
		}
		observers, err := checkCertificates(forged, mentioned, &report)
		if err == nil {
			_ = checkEvidence(evidence, observers, &report)
		}
	})
}
