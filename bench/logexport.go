package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
)

// writeExported writes an export with a proof for each entry.
func writeExported(path string, signed []byte, tree *audit.Tree, each func(func(*api.AuditEntry) error) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	out, prover := bufio.NewWriterSize(file, 1<<20), audit.NewProver(tree)
	if err := json.NewEncoder(out).Encode(audit.ExportHeader{Format: audit.ExportFormat, Checkpoint: string(signed)}); err != nil {
		return err
	}
	var line []byte
	err = each(func(e *api.AuditEntry) error {
		line = audit.AppendExported(line[:0], audit.Exported{Index: e.Index, Leaf: tree.Leaf(e.Index), Proof: prover.Prove(e.Index), Content: e.Content})
		_, err := out.Write(line)
		return err
	})
	return errors.Join(err, out.Flush(), file.Close())
}
