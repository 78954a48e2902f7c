package probe

import (
	"bufio"
	"context"
	"crypto"
	"crypto/tls"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// opensslServer starts openssl s_server with a certificate and returns its
// process once it listens.
func opensslServer(t *testing.T, ca authority, leaf tls.Certificate, flags ...string) (address string, process *os.Process) {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("openssl is not installed: run `make deps` (%v)", err)
	}
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := pki.EncodeKeyPEM(leaf.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	address = freeAddress(t)
	command := exec.Command(program, append([]string{
		"s_server", "-accept", address, "-quiet", "-naccept", "100000",
		"-cert", write("cert.pem", pki.EncodeCertificatesPEM(leaf.Certificate[0])),
		"-cert_chain", write("chain.pem", pki.EncodeCertificatesPEM(leaf.Certificate[1:]...)),
		"-key", write("key.pem", key),
		"-CAfile", write("ca.pem", ca.bundle.PEM()),
	}, flags...)...)
	output, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	input, err := command.StdinPipe() // open, so that it goes on serving
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string)
	go func() {
		all, _ := io.ReadAll(bufio.NewReader(output))
		said <- string(all)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		text := <-said
		_ = command.Wait()
		_ = input.Close()
		if t.Failed() {
			t.Logf("openssl said: %s", text)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if seen := shake(t, Spec{Address: address}); seen.Outcome == Served {
			return address, command.Process
		}
	}
	t.Fatal("openssl s_server does not come up")
	return "", nil
}

func TestOpenSSLServer(t *testing.T) {
	ca, stranger := newAuthority(t, "A"), newAuthority(t, "B")
	leaf := ca.leaf(t)
	good, bad := ca.leaf(t), stranger.leaf(t)
	demand := []string{"-Verify", "2", "-verify_return_error"}
	for name, c := range map[string]struct {
		flags    []string
		sent     *tls.Certificate
		protocol string
		want     Acceptance
	}{
		"open":              {nil, nil, "TLS 1.3", NotKnown},
		"mutual, none":      {demand, nil, "TLS 1.3", Rejected},
		"mutual, good":      {demand, &good, "TLS 1.3", Accepted},
		"mutual, bad":       {demand, &bad, "TLS 1.3", Rejected},
		"mutual, none, 1.2": {append([]string{"-tls1_2"}, demand...), nil, "TLS 1.2", Rejected},
		"mutual, good, 1.2": {append([]string{"-tls1_2"}, demand...), &good, "TLS 1.2", Accepted},
		"mutual, bad, 1.2":  {append([]string{"-tls1_2"}, demand...), &bad, "TLS 1.2", Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := opensslServer(t, ca, leaf, c.flags...)
			seen := shake(t, Spec{Address: address, ServerName: "db.example", Roots: ca.bundle, Certificate: c.sent, ReadAcceptance: true})
			if seen.Outcome != Served || seen.Trust != Trusted || seen.Protocol != c.protocol || seen.Accepted != c.want {
				t.Errorf("outcome %s, trust %s, %s, accepted %q, want %q: %s", seen.Outcome, seen.Trust, seen.Protocol, seen.Accepted, c.want, seen.Error)
			}
			if len(seen.Chain) != 2 || seen.Leaf.Fingerprint != hexOf(leaf.Certificate[0]) {
				t.Errorf("chain %v", seen.Chain)
			}
		})
	}
}

// TestFrozenServerIsATimeout stops a real server in the middle of its life:
// the kernel goes on accepting for it.
func TestFrozenServerIsATimeout(t *testing.T) {
	ca := newAuthority(t, "A")
	leaf := ca.leaf(t)
	address, process := opensslServer(t, ca, leaf)
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	expected := expect(ca, address, leaf, leaf)
	expected.Spec.Timeout = 400 * time.Millisecond
	verdict, seen := Prove(context.Background(), expected)
	if verdict.Proven || verdict.Cause != CausePath || !strings.Contains(verdict.Reason, "timeout at handshake") {
		t.Errorf("%+v", verdict)
	}
	if took := time.Since(start); took > 5*time.Second || seen[0].Outcome != Timeout {
		t.Errorf("took %s, first outcome %s", took, seen[0].Outcome)
	}
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if verdict, _ := Prove(context.Background(), patient(expected)); !verdict.Proven {
		t.Errorf("thawed: %+v", verdict)
	}
}
