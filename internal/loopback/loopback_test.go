package loopback_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/loopback"
)

const each = 300

func TestMain(m *testing.M) {
	if os.Getenv("RESERVE") != "" { // as a process of its own, until its input ends
		for range each {
			fmt.Println(reserve())
		}
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	os.Exit(m.Run())
}

func reserve() string {
	address, err := loopback.Reserve()
	if err != nil {
		panic(err)
	}
	return address
}

// Processes that run at once never get the same port, nor one that the kernel
// may give to an outgoing connection.
func TestProcessesShareNoPort(t *testing.T) {
	seen := map[string]bool{}
	note := func(address string) {
		if seen[address] {
			t.Errorf("%s was given twice", address)
		}
		seen[address] = true
	}
	for range 3 {
		other := exec.Command(os.Args[0])
		other.Env = append(os.Environ(), "RESERVE=1")
		in, err := other.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := other.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); _ = other.Wait() })
		for range each {
			var address string
			if _, err := fmt.Fscanln(out, &address); err != nil {
				t.Fatal(err)
			}
			note(address)
		}
	}
	for range each {
		note(reserve())
	}
	low, _, _ := strings.Cut(readRange(t), "\t")
	for address := range seen {
		if _, port, _ := net.SplitHostPort(address); len(port) != 5 || port >= low {
			t.Fatalf("%s is among the ephemeral ports, which begin at %s", address, low)
		}
	}
}

func readRange(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestWhatIsServedIsNotGiven(t *testing.T) {
	address := reserve()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("a reserved address can't be listened on: %v", err)
	}
	defer listener.Close()
}
