// Package documents holds what the demo declares to Rotunda, as templates
// whose gaps are what differs from run to run: ports, paths, the pace.
package documents

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed *.yaml
var files embed.FS

// Gaps is what the templates leave open.
type Gaps struct {
	Hosts        string // the directory below which every host has its own
	Greeter      string // host:port
	Terms        string // of all profiles: Brisk or Calm
	PartnerRoot  string // PEM
	LedgerTrusts string // the bundle's name
	Installed    []Installed
}

// Installed is a server that the demo picked up.
type Installed struct {
	Kind, Host, Address, Owner string
}

// Brisk and Calm are the two paces of the profiles. A brisk certificate has
// two minutes to live, and is renewed about four seconds after its issuance:
// the three members of the cluster take their turns meanwhile, one at a time.
const (
	Brisk = `
  lifetime: 2m
  renewAt: 0.03 # of the lifetime: the window opens after 3.6s
  rideOut: 1m55s500ms # it closes so long before the end: after 4.5s
  keyAge: 1h
  grace: 10s`
	Calm = `
  lifetime: 12h
  renewAt: 0.66
  rideOut: 2h
  keyAge: 24h
  grace: 1h`
)

// Write fills the templates of the names and writes them into directory.
func Write(directory string, gaps Gaps, names ...string) error {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return fmt.Errorf("make the documents' directory: %w", err)
	}
	gaps.PartnerRoot = indent(gaps.PartnerRoot, 8)
	for _, name := range names {
		parsed, err := template.New(name).Delims("[[", "]]").Option("missingkey=error").ParseFS(files, name)
		if err != nil {
			return fmt.Errorf("read the template %s: %w", name, err)
		}
		var filled bytes.Buffer
		if err := parsed.Execute(&filled, gaps); err != nil {
			return fmt.Errorf("fill the template %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(directory, name), filled.Bytes(), 0o600); err != nil {
			return fmt.Errorf("write the document: %w", err)
		}
	}
	return nil
}

func indent(text string, blanks int) string {
	margin := strings.Repeat(" ", blanks)
	return margin + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+margin)
}
