package greeter_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rotunda-pki/rotunda/demo/greeter"
	"github.com/rotunda-pki/rotunda/demo/papertest"
)

// served is the serial number that a fresh handshake shows.
func served(t *testing.T, office *papertest.Office, server *greeter.Server) string {
	t.Helper()
	connection, err := tls.Dial("tcp", server.Address(), &tls.Config{RootCAs: office.Roots(), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprintln(connection, "test")
	if answer, err := bufio.NewReader(connection).ReadString('\n'); err != nil || answer != "hello test\n" {
		t.Fatalf("the greeting is %q, %v", answer, err)
	}
	return connection.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func say(t *testing.T, server *greeter.Server, word string) {
	t.Helper()
	if _, err := server.Answer(word); err != nil {
		t.Fatalf("%s: %v", word, err)
	}
}

// TestLiesOnlyWhenTold walks through an honest reload, a lie, and the return
// to honesty: the answer is yes each time, and only the handshake tells.
func TestLiesOnlyWhenTold(t *testing.T) {
	office, directory := papertest.New(t), t.TempDir()
	first := office.Deliver(t, directory).SerialNumber.String()
	server, err := greeter.Listen("127.0.0.1:0", directory)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	expect := func(when, serial string) {
		t.Helper()
		if got := served(t, office, server); got != serial {
			t.Errorf("%s it serves %s, want %s", when, got, serial)
		}
	}
	expect("at first", first)

	second := office.Deliver(t, directory).SerialNumber.String()
	expect("before the reload", first)
	say(t, server, "reload")
	expect("after an honest reload", second)

	say(t, server, "lie")
	third := office.Deliver(t, directory).SerialNumber.String()
	say(t, server, "reload")
	expect("after a lying reload", second)

	say(t, server, "be-honest")
	expect("honest again, but not reloaded", second)
	say(t, server, "reload")
	expect("after another honest reload", third)
}

// TestRefusesBrokenFiles shows that an honest reload says no, and keeps what
// it served.
func TestRefusesBrokenFiles(t *testing.T) {
	office, directory := papertest.New(t), t.TempDir()
	first := office.Deliver(t, directory).SerialNumber.String()
	server, err := greeter.Listen("127.0.0.1:0", directory)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	office.Deliver(t, directory)
	if err := os.WriteFile(filepath.Join(directory, "current", "key.pem"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if answer, err := server.Answer("reload"); err == nil {
		t.Errorf("the reload of a broken key said %q", answer)
	}
	if got := served(t, office, server); got != first {
		t.Errorf("it serves %s, want %s as before", got, first)
	}
	if _, err := server.Answer("sing"); err == nil {
		t.Error("a word that it does not know was obeyed")
	}
}
