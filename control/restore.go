package control

import (
	"context"
	"crypto/x509"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// Restore sets a store right that is rolled back: certificates that agents hold
// get their records again, revocations that lists or lost entries show are made
// again, and a new epoch begins with an entry that names both logs. It is one
// transaction: cut off anywhere it has done nothing.
func (c *Control) Restore(ctx context.Context, caller Caller, req *api.RestoreRequest) (*api.RestoreResponse, error) {
	if err := authorize(caller, "restore"); err != nil {
		return nil, err
	}
	if req.Go && req.Reason == "" {
		return nil, fault.New(fault.Invalid, "a restore needs a reason, for the record").WithRemedy("say --reason")
	}
	lost, err := decodeEntries(req.Entries)
	if err != nil {
		return nil, err
	}
	response := &api.RestoreResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		state, r, err := c.prepareRestore(ctx, tx, req, lost, response)
		if err != nil || !req.Go {
			return err
		}
		return c.restore(ctx, tx, caller, req, state, r, response)
	}
	if !req.Go {
		return response, c.db.Read(ctx, body)
	}
	if err := c.db.Write(ctx, body); err != nil {
		return nil, err
	}
	c.identities.forget()
	c.log.Warn("store restored", "epoch", response.Epoch, "certificates", len(response.Certificates), "revocations", len(response.Revocations))
	c.watchers.wakeTrust()
	c.watchers.wakeEverybody()
	return response, nil
}

func decodeEntries(contents [][]byte) ([]audit.Entry, error) {
	entries := make([]audit.Entry, 0, len(contents))
	for i, content := range contents {
		entry, err := audit.Decode(content)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "entry %d of those given", i+1)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// prepareRestore finds what a restore would do.
func (c *Control) prepareRestore(ctx context.Context, tx *store.Tx, req *api.RestoreRequest, lost []audit.Entry, response *api.RestoreResponse) (*store.RolledBack, *recovery, error) {
	state, err := tx.RolledBack(ctx)
	if err != nil {
		return nil, nil, err
	}
	if state == nil {
		return nil, nil, fault.New(fault.Conflict, "the store is not rolled back: no agent and no witness has seen more of the audit log than it holds").
			WithRemedy("if an older copy was put in place, wait until agents have connected: rotunda status says when one has seen more")
	}
	r, err := c.newRecovery(ctx, tx)
	if err != nil {
		return nil, nil, err
	}
	r.entries = lost
	for i, der := range req.Crls {
		list, err := x509.ParseRevocationList(der)
		if err != nil || r.signers.ofList(list) == nil {
			return nil, nil, fault.New(fault.Invalid, "CRL %d of those given is not one that an authority of this store signed", i+1)
		}
		r.lists = append(r.lists, list)
	}
	testimonies, err := tx.Testimonies(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, one := range testimonies {
		said := &api.TestifyRequest{}
		if err := proto.Unmarshal(one.Content, said); err != nil {
			return nil, nil, fault.Wrap(fault.Internal, err, "testimony of agent %s", one.AgentID)
		}
		r.hear(one.AgentID, said)
	}
	if err := r.weigh(); err != nil {
		return nil, nil, err
	}
	response.RolledBack, response.SeenSize = rolledBackWords(state), state.SeenSize
	if response.Complete, err = c.isComplete(ctx, tx, state, req); err != nil {
		return nil, nil, err
	}
	if len(req.Entries) > 0 && !response.Complete {
		response.Lost = append(response.Lost, "the entries given do not lead to the checkpoint that agents have seen: some are missing, or are of another log")
	}
	if response.OwnSize, err = tx.TreeSize(ctx); err != nil {
		return nil, nil, err
	}
	epoch, err := tx.Epoch(ctx)
	response.Epoch = epoch + 1
	if err == nil {
		err = c.tellAgents(ctx, tx, testimonies, response)
	}
	r.tell(response)
	return state, r, err
}

// tellAgents says who has been heard, and who not.
func (c *Control) tellAgents(ctx context.Context, tx *store.Tx, testimonies []store.Testimony, response *api.RestoreResponse) error {
	heard := map[string]time.Time{}
	for _, one := range testimonies {
		heard[one.AgentID] = one.At
	}
	agents, err := tx.Agents(ctx)
	for _, agent := range agents {
		if at, ok := heard[agent.ID]; ok || agent.State == fleet.AgentActive {
			response.Agents = append(response.Agents, &api.RestoreWitness{AgentId: agent.ID, Recorded: true, Connected: c.connected(agent.ID), TestifiedAt: stamp(at)})
		}
		delete(heard, agent.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(heard)) {
		response.Agents = append(response.Agents, &api.RestoreWitness{AgentId: id, TestifiedAt: stamp(heard[id])})
	}
	return err
}

// tell puts what was found into the answer.
func (r *recovery) tell(response *api.RestoreResponse) {
	for _, one := range r.fresh {
		response.Certificates = append(response.Certificates, &api.RestoreCertificate{
			Serial: one.Serial.String(), AgentId: one.AgentID, PlacementId: one.PlacementID, Generation: one.Generation, Kind: string(one.Kind),
		})
		if one.Kind == store.KindLeaf && one.PlacementID == "" {
			response.Lost = append(response.Lost, fmt.Sprintf("certificate %s of agent %s gets a record, but no placement here is its own: apply the documents of then, and it is issued anew", one.Serial, one.AgentID))
		}
	}
	response.Certificates = append(response.Certificates, r.refused...)
	for serial, one := range r.revoked {
		response.Revocations = append(response.Revocations, &api.RestoreRevocation{
			Serial: serial.String(), Authority: one.authority, Reason: one.reason, From: one.from, Unrecorded: one.unrecorded,
		})
	}
	slices.SortFunc(response.Revocations, func(a, b *api.RestoreRevocation) int {
		if a.Serial < b.Serial {
			return -1
		}
		return 1
	})
	for _, id := range r.unknown {
		response.Lost = append(response.Lost, fmt.Sprintf("agent %s enrolled after the copy was made, and its labels are lost: give its host a new token, rotunda token create", id))
	}
	for _, one := range r.fallen {
		response.Lost = append(response.Lost, one.words())
	}
	if r.strangeCRLs > 0 {
		response.Lost = append(response.Lost, fmt.Sprintf("%d lists that agents hold are not of an authority of this store, and are passed over", r.strangeCRLs))
	}
}

// isComplete says whether the entries given, after those that the store has
// before them, hash up to what agents have seen: then no revocation is missing.
func (c *Control) isComplete(ctx context.Context, tx *store.Tx, state *store.RolledBack, req *api.RestoreRequest) (bool, error) {
	if len(req.Entries) == 0 {
		return false, nil
	}
	seen, err := audit.OpenCheckpoint(state.Seen, c.Origin(), c.logVerifier)
	if err != nil || req.FirstIndex+uint64(len(req.Entries)) < seen.Size {
		return false, err
	}
	err = audit.VerifyLog(joined(logContents(ctx, tx), req.FirstIndex, req.Entries, seen.Size), seen)
	if err != nil && fault.CodeOf(err) != fault.Conflict {
		return false, err
	}
	return err == nil, nil
}

// joined is the log of the size that begins with the first entries here and goes
// on with those given.
func joined(here iter.Seq2[[]byte, error], first uint64, given [][]byte, size uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var at uint64
		if first > 0 {
			for content, err := range here {
				if !yield(content, err) || err != nil {
					return
				}
				if at++; at == first || at == size {
					break
				}
			}
		}
		for _, content := range given {
			if at >= size || !yield(content, nil) {
				return
			}
			at++
		}
	}
}

// restore carries it out.
func (c *Control) restore(ctx context.Context, tx *store.Tx, caller Caller, req *api.RestoreRequest, state *store.RolledBack, r *recovery, response *api.RestoreResponse) error {
	if !response.Complete && !req.AcceptUnknown {
		return fault.New(fault.Conflict, "the audit log's entries from what the store lost are not all given: what was revoked then may be good again without anybody's notice").
			WithRemedy("give them with --export FILE; where there are none, say --accept-unknown-revocations, and revoke again what you know of")
	}
	kept, err := c.ownCheckpoint(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := r.apply(caller); err != nil {
		return err
	}
	if err := tx.RaiseEpoch(ctx); err != nil {
		return err
	}
	seen, err := audit.OpenCheckpoint(state.Seen, c.Origin(), c.logVerifier)
	if err != nil {
		return err
	}
	response.AuditId, err = done(ctx, tx, caller, audit.VerbRestored, "Store/"+c.domain.Name(), map[string]any{
		"epoch": response.Epoch, "reason": req.Reason, "complete": response.Complete,
		"kept": kept.Fact(), "seen": seen.Fact(), "witness": state.Witness, "foundAt": state.FoundAt.Format(time.RFC3339),
		"certificates": len(r.fresh), "revocations": len(r.revoked), "agents": len(response.Agents), "silent": silent(response.Agents),
	})
	if err != nil {
		return err
	}
	if err := tx.EndRollBack(ctx, state.ID, response.AuditId); err != nil {
		return err
	}
	if err := tx.DropTestimonies(ctx); err != nil {
		return err
	}
	// In the same commit, so that no agent hears of the epoch before the log
	// proves how it began.
	return c.sequenceAll(ctx, tx)
}

// silent are the agents that said nothing, as many as an entry has room for.
func silent(agents []*api.RestoreWitness) []string {
	ids := []string{}
	for _, one := range agents {
		if one.TestifiedAt == nil && len(ids) < 200 {
			ids = append(ids, one.AgentId)
		}
	}
	return ids
}

// ownCheckpoint is the log as it stands here.
func (c *Control) ownCheckpoint(ctx context.Context, tx *store.Tx) (audit.Checkpoint, error) {
	size, err := tx.TreeSize(ctx)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	root, err := audit.Root(size, tx.AuditTiles(ctx))
	return audit.Checkpoint{Origin: c.Origin(), Size: size, Root: root}, err
}
