package control

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// Plan says what Apply would do, and changes nothing.
func (c *Control) Plan(ctx context.Context, caller Caller, req *api.PlanRequest) (*api.PlanResponse, error) {
	if err := authorize(caller, "plan"); err != nil {
		return nil, err
	}
	response := &api.PlanResponse{Digest: digestFiles(req.Files)}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		r, err := c.reviewFiles(ctx, tx, req.Files, req.Prune)
		if err != nil {
			return err
		}
		response.Differences, response.Findings = r.differences(), wireFindings(r.findings)
		response.State = strconv.FormatUint(r.before.state, 10)
		return nil
	})
	return response, err
}

// Apply makes the documents of the files the declared ones, all or nothing. It
// removes none without prune. Where the files have errors nothing changes and
// the findings say why.
func (c *Control) Apply(ctx context.Context, caller Caller, req *api.ApplyRequest) (*api.ApplyResponse, error) {
	if err := authorize(caller, "apply"); err != nil {
		return nil, err
	}
	var response *api.ApplyResponse
	err := c.change(ctx, func(tx *store.Tx) error {
		response = &api.ApplyResponse{}
		r, err := c.reviewFiles(ctx, tx, req.Files, req.Prune)
		if err != nil {
			return err
		}
		response.Differences, response.Findings = r.differences(), wireFindings(r.findings)
		if state := strconv.FormatUint(r.before.state, 10); req.ExpectState != "" && req.ExpectState != state {
			return fault.New(fault.Conflict, "the documents changed since the plan was made (state %s, the plan has %s)", state, req.ExpectState).
				WithRemedy("look at a new plan: rotunda plan")
		}
		if fleet.HasErrors(r.findings) || !r.changesAnything() {
			return nil
		}
		response.AuditId, err = c.carryOut(ctx, tx, caller, r, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	if response.AuditId != "" {
		c.watchers.wakeEverybody()
	}
	return response, nil
}

func (r *review) changesAnything() bool {
	for _, one := range r.changes {
		if one.op != api.Difference_UNCHANGED {
			return true
		}
	}
	return false
}

// carryOut writes a review that has no errors.
func (c *Control) carryOut(ctx context.Context, tx *store.Tx, caller Caller, r *review, req *api.ApplyRequest) (string, error) {
	var summary []any
	for _, one := range r.changes {
		if one.op == api.Difference_UNCHANGED {
			continue
		}
		if err := c.storeChange(ctx, tx, caller, one, req.GitCommit); err != nil {
			return "", err
		}
		summary = append(summary, one.op.String()+" "+one.key.String())
	}
	if err := c.replaceAll(ctx, tx, r); err != nil {
		return "", err
	}
	if err := takeOverOverrides(ctx, tx, r); err != nil {
		return "", err
	}
	detail := map[string]any{"changes": summary, "files": digestFiles(req.Files)}
	if req.GitCommit != "" {
		detail["gitCommit"], detail["gitDirty"] = req.GitCommit, req.GitDirty
	}
	return done(ctx, tx, caller, "apply", "Documents", detail)
}

func (c *Control) storeChange(ctx context.Context, tx *store.Tx, caller Caller, one change, commit string) error {
	if one.op == api.Difference_DELETE {
		return tx.DeleteDocument(ctx, string(one.key.Kind), string(one.key.Name), caller.String())
	}
	content, err := one.document.JSON()
	if err != nil {
		return err
	}
	err = tx.PutDocument(ctx, store.Document{
		Kind: string(one.key.Kind), Name: string(one.key.Name), JSON: content,
		ChangedBy: caller.String(), GitCommit: commit,
	})
	if err != nil {
		return err
	}
	if declared, ok := one.document.Spec.(*fleet.Bundle); ok {
		return c.storeBundle(ctx, tx, one.key.Name, declared)
	}
	return nil
}

// replaceAll raises the state of the documents and makes every agent's
// placements agree with them. Only intents that change place anybody elsewhere.
// What a retired agent held is an orphan, and stays at its target, until it rejoins.
func (c *Control) replaceAll(ctx context.Context, tx *store.Tx, r *review) error {
	if err := tx.RaiseDocumentState(ctx); err != nil {
		return err
	}
	changed := map[fleet.Name]bool{}
	for _, one := range r.changes {
		if one.key.Kind == fleet.KindIntent && one.op != api.Difference_UNCHANGED {
			changed[one.key.Name] = true
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return pagesOfActive(ctx, tx, func(page []store.Agent) error {
		have, err := tx.PlacementsOfActive(ctx, page[0].ID, page[len(page)-1].ID)
		if err != nil {
			return err
		}
		return c.place(ctx, tx, r.after, page, have, func(intent fleet.Name) bool { return changed[intent] })
	})
}

// ListDocuments shows the declared documents, all or of one kind or name.
func (c *Control) ListDocuments(ctx context.Context, caller Caller, req *api.ListDocumentsRequest) (*api.ListDocumentsResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListDocumentsResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		records, err := tx.Documents(ctx, req.Kind, req.Name)
		for _, record := range records {
			response.Documents = append(response.Documents, &api.StoredDocument{
				Kind: record.Kind, Name: record.Name, Revision: record.Revision, Json: record.JSON,
				ChangedAt: stamp(record.ChangedAt), ChangedBy: record.ChangedBy, GitCommit: record.GitCommit,
			})
		}
		return err
	})
	return response, err
}

// DeleteDocument removes one document that nothing refers to. Removing an
// intent leaves its files and stops their renewal.
func (c *Control) DeleteDocument(ctx context.Context, caller Caller, req *api.DeleteDocumentRequest) (*api.DeleteDocumentResponse, error) {
	if err := authorize(caller, "delete"); err != nil {
		return nil, err
	}
	response := &api.DeleteDocumentResponse{}
	body := func(tx *store.Tx) error {
		r, err := c.reviewDeletion(ctx, tx, fleet.Key{Kind: fleet.Kind(req.Kind), Name: fleet.Name(req.Name)})
		if err != nil {
			return err
		}
		response.Effects = r.changes[0].effects
		if req.DryRun {
			return nil
		}
		if err := c.storeChange(ctx, tx, caller, r.changes[0], ""); err != nil {
			return err
		}
		if err := c.replaceAll(ctx, tx, r); err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "delete", r.changes[0].key.String(), nil)
		return err
	}
	if req.DryRun {
		return response, c.db.Read(ctx, body)
	}
	if err := c.change(ctx, body); err != nil {
		return nil, err
	}
	c.watchers.wakeEverybody()
	return response, nil
}

func (c *Control) reviewDeletion(ctx context.Context, tx *store.Tx, key fleet.Key) (*review, error) {
	before, err := c.worldAt(ctx, tx)
	if err != nil {
		return nil, err
	}
	old, known := before.set[key]
	if !known {
		return nil, fault.New(fault.NotFound, "%s does not exist", key)
	}
	set := fleet.NewSet()
	for _, document := range before.set {
		if document.Key() != key {
			set.Put(document)
		}
	}
	for _, finding := range fleet.Validate(set) {
		if finding.Severity == fleet.Error {
			return nil, fault.New(fault.Conflict, "%s can't be removed: %s: %s", key, finding.Document, finding.Message).
				WithRemedy("remove or change what refers to it first")
		}
	}
	r := &review{before: before, changes: []change{{op: api.Difference_DELETE, key: key, document: old}}}
	r.after, r.findings = compileWorld(before.state, set)
	if err := c.reviewFleet(ctx, tx, r); err != nil {
		return nil, err
	}
	return r, c.checkDeletion(ctx, tx, r)
}

// checkDeletion refuses a removal that would leave placements without what
// they have now, such as the policy that allows their names. What is wrong
// already stands in nobody's way.
func (c *Control) checkDeletion(ctx context.Context, tx *store.Tx, r *review) error {
	now := &review{before: r.before, after: r.before, concern: r.concern}
	if err := c.reviewFleet(ctx, tx, now); err != nil {
		return err
	}
	for _, finding := range r.findings {
		same := func(other fleet.Finding) bool {
			return other.Rule == finding.Rule && other.Document == finding.Document
		}
		if finding.Severity == fleet.Error && !slices.ContainsFunc(now.findings, same) {
			return fault.New(fault.Conflict, "%s can't be removed: %s: %s", r.changes[0].key, finding.Document, finding.Message).
				WithRemedy("remove or change what depends on it first")
		}
	}
	return nil
}

func digestFiles(files []*api.SourceFile) string {
	hash := sha256.New()
	for _, file := range files {
		fmt.Fprintf(hash, "%d:%s%d:", len(file.Path), file.Path, len(file.Content))
		hash.Write(file.Content)
	}
	return fmt.Sprintf("%x", hash.Sum(nil))
}
