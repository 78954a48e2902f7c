package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite"

	"github.com/rotunda-pki/rotunda/internal/loopback"
)

// ports prepares a script for a real server: it puts free addresses into
// $AGENTS, $OPERATORS, $PUBLIC, $METRICS, $SPARE and $WITNESS.
func ports(ts *testscript.TestScript, _ bool, _ []string) {
	for _, variable := range []string{"AGENTS", "OPERATORS", "PUBLIC", "METRICS", "SPARE", "WITNESS"} {
		address, err := loopback.Reserve()
		ts.Check(err)
		ts.Setenv(variable, address)
	}
}

// controlPlane runs the real server: "control start STATE" returns when it
// says that it is ready, "control stop" when it has ended in good order.
func controlPlane() func(*testscript.TestScript, bool, []string) {
	var running sync.Map // *testscript.TestScript → *exec.Cmd
	return func(ts *testscript.TestScript, _ bool, args []string) {
		switch {
		case len(args) == 2 && args[0] == "start":
			running.Store(ts, startServer(ts, ts.MkAbs(args[1])))
		case len(args) == 1 && args[0] == "stop":
			found, ok := running.LoadAndDelete(ts)
			if !ok {
				ts.Fatalf("no server runs")
			}
			server := found.(*exec.Cmd)
			ts.Check(server.Process.Signal(syscall.SIGTERM))
			ts.Check(server.Wait())
		default:
			ts.Fatalf("usage: control start STATE | control stop")
		}
	}
}

func startServer(ts *testscript.TestScript, state string) *exec.Cmd {
	binary, err := lookPath(ts, "rotunda")
	ts.Check(err)
	server := exec.Command(binary, "server", "--state", state)
	server.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME")}
	log, err := server.StderrPipe()
	ts.Check(err)
	ts.Check(server.Start())
	ts.Defer(func() { _ = server.Process.Kill() }) // it has ended already when all went well
	said := &strings.Builder{}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"msg":"ready"`) {
			go func() {
				for lines.Scan() { // until it ends, so that it never waits for us
				}
			}()
			return server
		}
		fmt.Fprintln(said, lines.Text())
	}
	ts.Fatalf("the server ended before it was ready:\n%s", said)
	return nil
}

func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for dir := range strings.SplitSeq(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		if path := dir + "/" + name; exists(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on the path", name)
}

// tamper changes a store behind its server's back: "tamper DB STATEMENT".
func tamper(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: tamper DB STATEMENT")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	result, err := db.Exec(args[1])
	ts.Check(err)
	if changed, err := result.RowsAffected(); err != nil || changed != 1 {
		ts.Fatalf("tampered with %d rows, not 1: %v", changed, err)
	}
	ts.Check(db.Close())
}

// eventually repeats a command line until it succeeds, for what the server
// does within a second of its own accord: "eventually rotunda …".
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v still fails: %v", args, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
