// With runs a command with a PostgreSQL beside it, which the command's tests
// find by their environment.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/rotunda-pki/rotunda/internal/postgrestest"
)

func main() {
	code, err := with(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "with PostgreSQL:", err)
	}
	os.Exit(code)
}

func with(argv []string) (code int, err error) {
	if len(argv) == 0 {
		return 2, errors.New("which command?")
	}
	dir, err := os.MkdirTemp("", "rotunda-postgres-")
	if err != nil {
		return 2, err
	}
	defer os.RemoveAll(dir)
	server, err := postgrestest.Start(dir)
	if err != nil {
		return 2, err
	}
	defer func() { _ = server.Kill() }() // its data goes anyway
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), postgrestest.Environment+"="+server.URL("postgres"))
	err = cmd.Run()
	if exited, ok := errors.AsType[*exec.ExitError](err); ok {
		return exited.ExitCode(), nil
	}
	if err != nil {
		return 2, err
	}
	return 0, nil
}
