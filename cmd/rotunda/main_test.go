package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rotunda": main})
}

// TestScripts runs testdata/*.txt: each is a session at a shell, with the
// real binary. Some speak with a real server (control), others with one that
// speaks the operators' API over mutual TLS and answers from
// answers/METHOD.json (serve).
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("TZ", "UTC")
			env.Setenv("NO_COLOR", "1")
			examples, err := filepath.Abs("../../examples")
			if err != nil {
				return err
			}
			env.Setenv("EXAMPLES", examples)
			for _, variable := range []string{"ROTUNDA_SERVER", "ROTUNDA_CREDENTIALS", "ROTUNDA_SOCKET", "XDG_CONFIG_HOME"} {
				env.Setenv(variable, "")
			}
			return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serve, "ports": ports, "postgres": postgres, "control": controlPlane(), "tamper": tamper, "eventually": eventually,
		},
	})
}
