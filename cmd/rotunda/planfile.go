package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// savedPlan is what plan --out writes and apply --plan carries out: the
// files as they were read, and the state of the server that they were
// compared with.
type savedPlan struct {
	Format      string      `json:"format"`
	TrustDomain string      `json:"trustDomain"`
	State       string      `json:"state"`  // of the server's documents
	Digest      string      `json:"digest"` // of the files, by the server
	Prune       bool        `json:"prune"`
	Git         origin      `json:"git"`
	Files       []savedFile `json:"files"`
}

type savedFile struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
}

const planFormat = "rotunda-plan/1"

func (p *savedPlan) write(path string) error {
	content, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the plan: %w", err)
	}
	if err := os.WriteFile(path, append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	return nil
}

func readPlan(path string) (*savedPlan, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "read the plan").WithRemedy("rotunda plan --out FILE makes one")
	}
	plan := &savedPlan{}
	if err := json.Unmarshal(content, plan); err != nil || plan.Format != planFormat || plan.State == "" || len(plan.Files) == 0 {
		return nil, fault.New(fault.Invalid, "%s is not a plan of this version", path).
			WithRemedy("make it anew with rotunda plan --out FILE")
	}
	return plan, nil
}

func (p *savedPlan) sources() []*api.SourceFile {
	var files []*api.SourceFile
	for _, file := range p.Files {
		files = append(files, &api.SourceFile{Path: file.Path, Content: file.Content})
	}
	return files
}
